"""Agreement of encoders, predictors and the probe with the published modules (golden, golden21)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from agreement_golden import Golden, Pairs

from worldmodel.actions import apply_action, pose_diff
from worldmodel.checkpoint import load_published

VJEPA2, VJEPA21 = "vjepa2_pretrain_layout.pt", "vjepa21_layout.pt"
INPUTS = (
    "clip*",
    "image",
    "mask_*",
    "poses",
    "ac_*frames",
    "ac_*actions",
    "ac_*states",
    "ac_*_extrinsics",
)


def _sizes(g: Golden) -> dict[str, Any]:
    """Return the arguments of `load_published` that both files of sizes have."""
    c = g.sizes("config") if g.stem == "golden" else g.facts
    return {"image_size": c["crop"], "num_frames": c["frames"], "rope": c.get("rope")}


def _heads(g: Golden, name: str) -> int:
    return int(g.sizes(*(("config",) if g.stem == "golden" else ()), name))


def _network(g: Golden, file: str, part: str, heads: str) -> torch.nn.Module:
    """Load a part of a file; `heads` is the name of its number of heads."""
    sizes = {"num_heads": _heads(g, heads), **_sizes(g)}
    return g.placed(load_published(g.folder / file, part, **sizes))


def vjepa2_encoder(g: Golden) -> Pairs:
    """Encoder on whole and masked clips."""
    encoder = _network(g, VJEPA2, "encoder", "heads")
    yield g.pair("encoder_tokens", encoder(g["clip"]))
    yield g.pair("encoder_tokens_masked", encoder(g["clip"], g["mask_context"]))


def vjepa2_nonsquare(g: Golden) -> Pairs:
    """Encoder on frames that are not square."""
    encoder = _network(g, VJEPA2, "encoder", "heads")
    yield g.pair("encoder_tokens_nonsquare", encoder(g["clip_nonsquare"]))


def vjepa2_target(g: Golden) -> Pairs:
    """Target encoder."""
    target = _network(g, VJEPA2, "target_encoder", "heads")
    yield g.pair("target_encoder_tokens", target(g["clip"]))


def vjepa2_predictor(g: Golden) -> Pairs:
    """Masked predictor with two of its mask tokens."""
    encoder = _network(g, VJEPA2, "encoder", "heads")
    seen = encoder(g["clip"], g["mask_context"])
    predictor = _network(g, VJEPA2, "predictor", "ph")
    for token in (0, 1):
        out = predictor(seen, g["mask_context"], g["mask_target"], token)
        yield g.pair(f"predictor_out_mask_token_{token}", out)


def vjepa2_probe(g: Golden) -> Pairs:
    """Probe on the golden tokens."""
    file, heads = g.folder / "probe_layout.pt", _heads(g, "heads")
    probe = g.placed(load_published(file, "probe", num_heads=heads))
    yield g.pair("probe_logits", probe(g["encoder_tokens"]))


def pose_differences(g: Golden) -> Pairs:
    """Actions between poses."""
    yield g.pair("pose_diffs", pose_diff(g["poses"], g["poses"].roll(-1, 0)))


def moved_poses(g: Golden) -> Pairs:
    """Poses after actions."""
    moved = apply_action(g["poses"], g["pose_diffs"])
    turn = pose_diff(g["new_pose"], moved)[:, 3:6]  # Euler angles are not unique
    moved[:, 3:6] = g["new_pose"][:, 3:6] + turn
    yield g.pair("new_pose", moved)


def _action_conditioned(g: Golden, name: str, keys: Sequence[str]) -> Pairs:
    model = _network(g, f"vjepa2_{name}_layout.pt", "predictor", "ph")
    given = [g[f"{name}_{key}"] for key in keys]
    yield g.pair(f"{name}_out", model(*given))
    tokens = given[0].shape[1] // given[1].shape[1]
    first = [given[0][:, : 2 * tokens], *(x[:, :2] for x in given[1:])]
    yield g.pair(f"{name}_out_T2", model(*first))


def vjepa2_ac(g: Golden) -> Pairs:
    """Action-conditioned predictor."""
    yield from _action_conditioned(g, "ac", ("frames", "actions", "states"))


def vjepa2_ac_extrinsics(g: Golden) -> Pairs:
    """Action-conditioned predictor with the camera's extrinsics."""
    keys = ("frames", "actions", "states", "extrinsics")
    yield from _action_conditioned(g, "ac_extrinsics", keys)


def vjepa1(g: Golden) -> Pairs:
    """V-JEPA 1 encoder on whole and masked clips."""
    model = _network(g, "vjepa1_layout.pth.tar", "encoder", "heads")
    yield g.pair("vjepa1_encoder_tokens", model(g["clip"]))
    yield g.pair("vjepa1_encoder_tokens_masked", model(g["clip"], g["mask_context"]))


def vjepa21_encoder(g: Golden) -> Pairs:
    """V-JEPA 2.1 encoder and predictor."""
    encoder = _network(g, VJEPA21, "encoder", "heads")
    yield g.pair("encoder_tokens", encoder(g["clip"]))
    seen = encoder(g["clip"], g["mask_context"])
    yield g.pair("encoder_tokens_masked", seen)
    predictor = _network(g, VJEPA21, "predictor", "ph")
    targets, context = predictor(seen, g["mask_context"], g["mask_target"], 1)
    yield g.pair("predictor_targets", targets)
    yield g.pair("predictor_context", context)


def vjepa21_image(g: Golden) -> Pairs:
    """V-JEPA 2.1 encoder on images."""
    yield g.pair("image_tokens", _network(g, VJEPA21, "encoder", "heads")(g["image"]))


def vjepa21_nonsquare(g: Golden) -> Pairs:
    """V-JEPA 2.1 encoder on frames that are not square."""
    encoder = _network(g, VJEPA21, "encoder", "heads")
    yield g.pair("encoder_tokens_nonsquare", encoder(g["clip_nonsquare"]))


OF_VJEPA2 = (
    *(vjepa1, vjepa2_encoder, vjepa2_nonsquare, vjepa2_target, vjepa2_predictor, vjepa2_probe),
    *(pose_differences, moved_poses, vjepa2_ac, vjepa2_ac_extrinsics),
)
OF_VJEPA21 = (vjepa21_encoder, vjepa21_image, vjepa21_nonsquare)
FAMILIES = (
    *(("golden", family) for family in OF_VJEPA2),
    *(("golden21", family) for family in OF_VJEPA21),
)
