"""Model card of a repository: the README.md of Hugging Face, with front matter in YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from worldmodel.checkpoints.io import Model, kind_of, networks
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.models.world_model import WorldModel

KINDS = {
    "world_model": ("World model", "load_world_model", "robotics"),
    "video_model": ("Video encoder", "load_encoder", "feature-extraction"),
    "latent_dynamics": ("Latent dynamics without its encoder", "load_any", "robotics"),
    "probe": ("Attentive probe", "load_probe", "video-classification"),
}
"""Kind -> its name, the function that loads it, and the hub's name of its task."""
HUB_LICENCES = {"MIT": "mit", "CC BY-NC 4.0": "cc-by-nc-4.0"}
"""Licence in the registry of published models -> its identifier on the hub."""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says beside the model's own configuration."""

    repository: str
    """Name in the example that loads the model."""
    notes: Mapping[str, str]
    """Notes about the training."""
    licence: str
    """Identifier of the hub, such as `mit`; empty if it is not stated."""
    findings: tuple[str, ...]
    """Sentences of the training's verdict."""
    has_decoder: bool
    """Whether a picture decoder is among the files."""


def model_card(model: Model, facts: CardFacts) -> str:
    """Compose the model card."""
    notes, findings, licence = facts.notes, facts.findings, facts.licence
    title, loader, task = KINDS[kind_of(model)]
    front = ["---", "library_name: worldmodel", f"pipeline_tag: {task}"]
    front += [f"license: {json.dumps(licence)}"] if licence else []
    front += ["tags: [world-model, v-jepa, robotics]", "---"]
    lines = [
        *front,
        "",
        f"# {title}",
        "",
        "Written by `worldmodel`. The weights are safetensors; nothing is unpickled, and no code",
        "comes with them.",
        "",
        "```python",
        "import worldmodel",
        "",
        f'model = worldmodel.{loader}("{facts.repository}")',
        "```",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _rows(model, facts.has_decoder).items()),
    ]
    if notes:
        lines += ["", "## Training", "", *(f"- {_plain(k)}: {_plain(notes[k])}" for k in notes)]
    if findings:
        lines += ["", "## Verdict on held-out clips", "", *(f"- {text}" for text in findings)]
    if isinstance(model, WorldModel):
        lines += [
            "",
            "## Limits",
            "",
            "The model knows the arm, cameras and period above only. On a real arm, begin with a",
            "dry run, and keep the limits of the safety layer.",
        ]
    return "\n".join(lines) + "\n"


def _plain(text: object) -> str:
    """Return a note in one line, without marks of tables."""
    return " ".join(str(text).replace("|", "/").split())


def _rows(model: Model, has_decoder: bool) -> dict[str, object]:
    count = sum(p.numel() for network in networks(model).values() for p in network.parameters())
    rows: dict[str, object] = {"parameters": f"{count:,}"}
    if isinstance(model, AttentiveClassifier):
        return rows
    observation = getattr(model, "observation_spec", None)
    if observation is not None:
        height, width = observation.image_size
        rows |= {
            "input images": f"{height} x {width} px, transform `{observation.transform}`",
            "cameras": ", ".join(observation.cameras),
        }
    action = getattr(model, "action_spec", None)
    if action is not None:
        rows |= {
            "actions": f"{action.action_dim} numbers, one every {action.period_s:g} s",
            "largest step": f"{action.max_step_m:g} m, {action.max_rotation_rad:g} rad",
            "gripper": action.gripper,
        }
    if isinstance(model, WorldModel):
        rows |= {
            "state": f"{model.observation_spec.state_dim} numbers, "
            f"pose of the {model.observation_spec.state_frame}",
            "object head": "no" if model.object_head is None else "yes",
            "home head": "no" if model.home_head is None else "yes",
            "picture decoder": "yes" if has_decoder else "no",
        }
    return rows
