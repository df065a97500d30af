"""Agreement of encoders, predictors and the probe with the published modules (golden, golden21)."""

from __future__ import annotations

from agreement_golden import Golden, Pairs

from worldmodel.actions import apply_action, pose_diff
from worldmodel.checkpoint import load_published

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


def vjepa2(g: Golden) -> Pairs:
    """Yield the arrays of encoder, target encoder, masked predictor, probe and poses."""
    c, file = g.facts["config"], g.folder / "vjepa2_pretrain_layout.pt"
    sizes = {"image_size": c["crop"], "num_frames": c["frames"]}
    encoder = g.placed(load_published(file, "encoder", num_heads=c["heads"], **sizes))
    seen = encoder(g["clip"], g["mask_context"])
    yield g.pair("encoder_tokens", encoder(g["clip"]))
    yield g.pair("encoder_tokens_nonsquare", encoder(g["clip_nonsquare"]))
    yield g.pair("encoder_tokens_masked", seen)
    target = g.placed(load_published(file, "target_encoder", num_heads=c["heads"], **sizes))
    yield g.pair("target_encoder_tokens", target(g["clip"]))
    predictor = g.placed(load_published(file, "predictor", num_heads=c["ph"], **sizes))
    for token in (0, 1):
        out = predictor(seen, g["mask_context"], g["mask_target"], token)
        yield g.pair(f"predictor_out_mask_token_{token}", out)
    probe = g.placed(load_published(g.folder / "probe_layout.pt", "probe", num_heads=c["heads"]))
    yield g.pair("probe_logits", probe(g["encoder_tokens"]))
    poses = g["poses"]
    yield g.pair("pose_diffs", pose_diff(poses, poses.roll(-1, 0)))
    moved = apply_action(poses, g["pose_diffs"])
    turn = pose_diff(g["new_pose"], moved)[:, 3:6]  # Euler angles are not unique
    moved[:, 3:6] = g["new_pose"][:, 3:6] + turn
    yield g.pair("new_pose", moved)


def vjepa2_ac(g: Golden) -> Pairs:
    """Yield the arrays of the action-conditioned predictor, with and without extrinsics."""
    c = g.facts["config"]
    sizes = {"num_heads": c["ph"], "image_size": c["crop"], "num_frames": c["frames"]}
    for name in ("ac", "ac_extrinsics"):
        model = g.placed(
            load_published(g.folder / f"vjepa2_{name}_layout.pt", "predictor", **sizes)
        )
        keys = ["frames", "actions", "states", *(["extrinsics"] if "ex" in name else [])]
        given = [g[f"{name}_{key}"] for key in keys]
        yield g.pair(f"{name}_out", model(*given))
        tokens = given[0].shape[1] // given[1].shape[1]
        first = [given[0][:, : 2 * tokens], *(x[:, :2] for x in given[1:])]
        yield g.pair(f"{name}_out_T2", model(*first))


def vjepa1(g: Golden) -> Pairs:
    """Yield the arrays of the V-JEPA 1 encoder."""
    c = g.facts["config"]
    file, sizes = g.folder / "vjepa1_layout.pth.tar", {"num_frames": c["frames"]}
    sizes |= {"num_heads": c["heads"], "image_size": c["crop"]}
    model = g.placed(load_published(file, "encoder", **sizes))
    yield g.pair("vjepa1_encoder_tokens", model(g["clip"]))
    yield g.pair("vjepa1_encoder_tokens_masked", model(g["clip"], g["mask_context"]))


def vjepa21(g: Golden) -> Pairs:
    """Yield the arrays of the V-JEPA 2.1 encoder and predictor."""
    c, file = g.facts, g.folder / "vjepa21_layout.pt"
    sizes = {"image_size": c["crop"], "num_frames": c["frames"]}
    encoder = g.placed(load_published(file, "encoder", num_heads=c["heads"], **sizes))
    seen = encoder(g["clip"], g["mask_context"])
    yield g.pair("encoder_tokens", encoder(g["clip"]))
    yield g.pair("image_tokens", encoder(g["image"]))
    yield g.pair("encoder_tokens_nonsquare", encoder(g["clip_nonsquare"]))
    yield g.pair("encoder_tokens_masked", seen)
    predictor = g.placed(load_published(file, "predictor", num_heads=c["ph"], **sizes))
    targets, context = predictor(seen, g["mask_context"], g["mask_target"], 1)
    yield g.pair("predictor_targets", targets)
    yield g.pair("predictor_context", context)


FAMILIES = (("golden", vjepa1), ("golden", vjepa2), ("golden", vjepa2_ac), ("golden21", vjepa21))
