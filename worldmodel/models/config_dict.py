"""Convert configurations to and from the dictionaries in checkpoints, with validation.

Files written before specs existed hold one `convention` in place of `observation`, `action` and
`scaling`; this module alone translates them.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

from worldmodel.errors import ConfigError
from worldmodel.models.config import EncoderConfig, OwnEncoderConfig, TransformersConfig
from worldmodel.models.model_config import FrameEncoderConfig, ModelConfig

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as a JSON serialisable dictionary."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: dict[str, Any]) -> Config:
    """Rebuild a config of class `kind` from the result of `to_dict`.

    Raises:
        ConfigError: A name is unknown or missing, or a value has the wrong type or range.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{kind.__name__} must be a dictionary, not {values!r}")
    if "convention" in values and kind in (ModelConfig, FrameEncoderConfig):
        values = _from_convention(values, is_world=kind is ModelConfig)
    # no type variable can say that `kind` is a dataclass
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(
            f"{kind.__name__} has no option {unknown}; known: {sorted(fields)}. "
            "Another version wrote the file: convert it again"
        )
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{kind.__name__} needs {missing}: the description is incomplete")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(value, hints[name]) for name, value in values.items()})


def _from_convention(values: dict[str, Any], *, is_world: bool) -> dict[str, Any]:
    """Split the `convention` of an older file into observation, action and scaling."""
    encoder, predictor = (values.get(name, {}) for name in ("encoder", "predictor"))
    for name in ("convention", "encoder", "predictor"):
        if not isinstance(values.get(name, {}), dict):
            raise ConfigError(f"{name} must be a dictionary, not {values[name]!r}")
    left = dict(values["convention"])
    names = {"step_seconds": "period_s", "gripper": "gripper", "max_step_m": "max_step_m"}
    action = {new: left.pop(old) for old, new in names.items() if old in left}
    observation = {
        "image_size": encoder.get("image_size", [256, 256]),
        "transform": "droid" if is_world else "published",
        "frames_per_token": left.pop("frames_per_token", 2),
    }
    for name in ("pixel_mean", "pixel_std", "state_frame"):
        if name in left:
            observation[name] = left.pop(name)
    made = {k: v for k, v in values.items() if k != "convention"} | {"observation": observation}
    if is_world:
        observation["state_dim"] = predictor.get("state_dim", 7)
        action["action_dim"] = predictor.get("action_dim", 7)
        made |= {"action": action, "scaling": left}
    else:
        made["normalise_tokens"] = left.get("normalise_tokens", True)
    return made


def _value(value: Any, hint: Any) -> Any:
    """Turn lists into tuples and dictionaries into nested configs; these check what they get."""
    if TransformersConfig in typing.get_args(hint):  # the kinds of backbones
        kinds = {"settings": TransformersConfig, "code": OwnEncoderConfig}
        found = [kind for name, kind in kinds.items() if isinstance(value, dict) and name in value]
        return from_dict(found[0] if found else EncoderConfig, value)
    for kind in (hint, *typing.get_args(hint)):  # a nested config, or one that may be None
        if value is not None and dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return from_dict(kind, value)
    return tuple(value) if isinstance(value, list) else value
