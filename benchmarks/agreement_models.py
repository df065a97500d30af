"""Agreement of encoders, predictors and the probe with the published modules (golden, golden21)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from agreement_golden import Golden, Pairs

from worldmodel.actions import apply_action, pose_diff
from worldmodel.checkpoint import load_published

VJEPA2, VJEPA21 = "vjepa2_pretrain_layout.pt", "vjepa21_layout.pt"
VJEPA1_HEADS = 2
"""Heads of the V-JEPA 1 layout, whose sizes are fixed and not in the JSON file."""
PREDICTED = re.compile(r"predictor_out_mask_token_(\d+)")
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


def _config(g: Golden) -> dict[str, Any]:
    """Return the sizes, which the JSON file has at the top or under `config`."""
    return dict(g.sizes("config") if "config" in g.facts else g.facts)


def _sizes(g: Golden) -> dict[str, Any]:
    """Return the arguments of `load_published` that both files of sizes have."""
    c = _config(g)
    return {"image_size": c["crop"], "num_frames": c["frames"], "rope": c.get("rope")}


def _heads(g: Golden, name: str) -> int:
    return int(_config(g)[name])


def _network(g: Golden, file: str, part: str, heads: str | int, **grid: int) -> Any:
    """Load a part of a file; `heads` is the number of heads or its name in the JSON file."""
    count = _heads(g, heads) if isinstance(heads, str) else heads
    sizes = {"num_heads": count, **_sizes(g), **grid}
    return g.placed(load_published(g.folder / file, part, **sizes))


def _predictor(g: Golden, file: str, encoder: Any) -> Any:
    """Load a masked predictor, whose file lacks the patch size, with the encoder's token grid."""
    patch, tubelet, sizes = encoder.config.patch_size, encoder.config.tubelet_size, _sizes(g)
    grid = {
        "image_size": 16 * (sizes["image_size"] // patch),
        "num_frames": 2 * (sizes["num_frames"] // tubelet),
    }
    return _network(g, file, "predictor", "ph", **grid)


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
    """Masked predictor with its mask tokens, whose index is modulo their number."""
    encoder = _network(g, VJEPA2, "encoder", "heads")
    seen = encoder(g["clip"], g["mask_context"])
    predictor = _predictor(g, VJEPA2, encoder)
    found = {int(m[1]) for m in map(PREDICTED.fullmatch, g.arrays) if m}
    for token in sorted({0, 1} | found):
        index = token % predictor.config.num_mask_tokens
        out = predictor(seen, g["mask_context"], g["mask_target"], index)
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
    given = [g[f"{name}_{key}"] for key in keys]
    tokens = given[0].shape[1] // given[1].shape[1]
    file, side = f"vjepa2_{name}_layout.pt", 16 * math.isqrt(tokens)
    frames = given[1].shape[1]
    model = _network(g, file, "predictor", "ph", image_size=side, num_frames=2 * frames)
    yield g.pair(f"{name}_out", model(*given))
    found = {int(m[1]) for m in (re.fullmatch(rf"{name}_out_T(\d+)", n) for n in g.arrays) if m}
    for frames in sorted({2} | found):
        first = [given[0][:, : frames * tokens], *(x[:, :frames] for x in given[1:])]
        yield g.pair(f"{name}_out_T{frames}", model(*first))


def vjepa2_ac(g: Golden) -> Pairs:
    """Action-conditioned predictor."""
    yield from _action_conditioned(g, "ac", ("frames", "actions", "states"))


def vjepa2_ac_extrinsics(g: Golden) -> Pairs:
    """Action-conditioned predictor with the camera's extrinsics."""
    keys = ("frames", "actions", "states", "extrinsics")
    yield from _action_conditioned(g, "ac_extrinsics", keys)


def vjepa1(g: Golden) -> Pairs:
    """V-JEPA 1 encoder on whole and masked clips."""
    model = _network(g, "vjepa1_layout.pth.tar", "encoder", VJEPA1_HEADS)
    yield g.pair("vjepa1_encoder_tokens", model(g["clip"]))
    yield g.pair("vjepa1_encoder_tokens_masked", model(g["clip"], g["mask_context"]))


def vjepa21_encoder(g: Golden) -> Pairs:
    """V-JEPA 2.1 encoder and predictor."""
    encoder = _network(g, VJEPA21, "encoder", "heads")
    yield g.pair("encoder_tokens", encoder(g["clip"]))
    seen = encoder(g["clip"], g["mask_context"])
    yield g.pair("encoder_tokens_masked", seen)
    predictor = _predictor(g, VJEPA21, encoder)
    if predictor.config.encoder_dim != encoder.config.embed_dim:  # not distilled: four levels
        seen = encoder(g["clip"], g["mask_context"], all_levels=True)
    index = 1 % predictor.config.num_mask_tokens
    targets, context = predictor(seen, g["mask_context"], g["mask_target"], index)
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
