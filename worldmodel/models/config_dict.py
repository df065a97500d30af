"""Convert configurations to and from the dictionaries in checkpoints, with validation.

Files written before specs existed hold one `convention` in place of `observation`, `action` and
`scaling`; this module alone translates them.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

from worldmodel.errors import ConfigError
from worldmodel.models.config import EncoderConfig, TransformersConfig
from worldmodel.models.model_config import FrameEncoderConfig, ModelConfig

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as a JSON serialisable dictionary."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: dict[str, Any]) -> Config:
    """Rebuild a config of class `kind` from the result of `to_dict`.

    Raises:
        ConfigError: a name is unknown or missing, or a value has the wrong type or range.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{kind.__name__} must be a dictionary, not {values!r}")
    if "convention" in values and kind in (ModelConfig, FrameEncoderConfig):
        values = _from_convention(values, is_world=kind is ModelConfig)
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
    return kind(**{k: _value(f"{kind.__name__}.{k}", v, hints[k]) for k, v in values.items()})


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


def _value(name: str, value: Any, hint: Any) -> Any:
    """Check a value against a field's type; convert lists to tuples, dictionaries to configs."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(name, value, arguments)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{name}={value!r} must be one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        return _tuple(name, value, arguments)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return value
    if type(value) is not hint:
        raise ConfigError(f"{name}={value!r} must be of type {hint.__name__}")
    return value


def _union(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    if TransformersConfig in choices:  # the two kinds of backbone
        is_ours = isinstance(value, dict) and "settings" not in value
        return from_dict(EncoderConfig if is_ours else TransformersConfig, value)
    if value is None and type(None) in choices:
        return None
    rest = [choice for choice in choices if choice is not type(None)]
    return _value(name, value, rest[0])


def _tuple(name: str, value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name}={value!r} must be a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ConfigError(f"{name}={value!r} must hold {len(kinds)} values")
    pairs = zip(value, kinds, strict=True)
    return tuple(_value(f"{name}[{i}]", v, kind) for i, (v, kind) in enumerate(pairs))
