"""Agreement with what the published modules compute on random weights (tests/golden)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.actions import apply_action, pose_diff
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.config import EncoderConfig, PredictorConfig
from worldmodel.models.encoder import VisionTransformer

GOLDEN = Path(__file__).parents[2] / "golden"
V2 = {
    "embed_dim": 64,
    "depth": 3,
    "num_heads": 2,
    "mlp_ratio": 4.363636363636363,
    "image_size": (64, 64),
    "num_frames": 8,
}


@pytest.fixture(scope="module")
def arrays():
    return {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / "golden.npz").items()}


def weights(file: str, part: str) -> dict[str, torch.Tensor]:
    state = torch.load(GOLDEN / file, weights_only=True)[part]
    return {k.replace("module.", "").replace("backbone.", ""): v for k, v in state.items()}


def agree(found, wanted):
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


def encoder(file: str, part: str, **sizes) -> VisionTransformer:
    model = VisionTransformer(EncoderConfig(**sizes)).eval()
    model.load_state_dict(weights(file, part))
    return model


@torch.no_grad()
def test_vjepa2_encoder(arrays):
    model = encoder("vjepa2_pretrain_layout.pt", "encoder", **V2)
    agree(model(arrays["clip"]), arrays["encoder_tokens"])
    agree(model(arrays["clip_nonsquare"]), arrays["encoder_tokens_nonsquare"])
    agree(model(arrays["clip"], arrays["mask_context"]), arrays["encoder_tokens_masked"])
    target = encoder("vjepa2_pretrain_layout.pt", "target_encoder", **V2)
    agree(target(arrays["clip"]), arrays["target_encoder_tokens"])


@torch.no_grad()
def test_vjepa1_encoder_and_its_own_position_table(arrays):
    sizes = {"embed_dim": 96, "depth": 2, "num_heads": 2, "image_size": (64, 64), "num_frames": 8}
    fresh = VisionTransformer(EncoderConfig(position="sincos", **sizes)).pos_embed
    model = encoder("vjepa1_layout.pth.tar", "encoder", position="sincos", **sizes)
    agree(fresh, model.pos_embed)
    agree(model(arrays["clip"]), arrays["vjepa1_encoder_tokens"])
    agree(model(arrays["clip"], arrays["mask_context"]), arrays["vjepa1_encoder_tokens_masked"])


@torch.no_grad()
def test_vjepa21_encoder():
    arrays = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / "golden21.npz").items()}
    model = encoder(
        "vjepa21_layout.pt",
        "encoder",
        embed_dim=48,
        depth=12,
        num_heads=2,
        image_size=(64, 64),
        num_frames=4,
        rope="interleaved",
        interpolate_rope=True,
        modality_embedding=True,
        norm_blocks=(2, 5, 8, 11),
    )
    agree(model(arrays["clip"]), arrays["encoder_tokens"])
    agree(model(arrays["image"]), arrays["image_tokens"])
    agree(model(arrays["clip_nonsquare"]), arrays["encoder_tokens_nonsquare"])
    agree(model(arrays["clip"], arrays["mask_context"]), arrays["encoder_tokens_masked"])


def predictor(*, extrinsics: bool) -> ActionConditionedPredictor:
    model = ActionConditionedPredictor(
        PredictorConfig(
            grid=(4, 4),
            encoder_dim=64,
            embed_dim=96,
            depth=2,
            num_heads=2,
            use_extrinsics=extrinsics,
        )
    ).eval()
    name = "_extrinsics" if extrinsics else ""
    model.load_state_dict(weights(f"vjepa2_ac{name}_layout.pt", "predictor"))
    return model


def inputs(arrays, *, extrinsics: bool):
    name = "ac_extrinsics" if extrinsics else "ac"
    keys = (
        ("frames", "actions", "states", "extrinsics")
        if extrinsics
        else ("frames", "actions", "states")
    )
    return [arrays[f"{name}_{key}"] for key in keys], arrays[f"{name}_out"]


@torch.no_grad()
@pytest.mark.parametrize("extrinsics", [False, True])
def test_action_conditioned_predictor_whole_and_cached(arrays, extrinsics):
    model = predictor(extrinsics=extrinsics)
    given, wanted = inputs(arrays, extrinsics=extrinsics)
    agree(model(*given), wanted)
    frames = given[0].unflatten(1, (-1, 16))
    cache, found = None, []
    for t in range(frames.shape[1]):
        pose = given[3][:, t] if extrinsics else None
        out, cache = model.step(frames[:, t], given[1][:, t], given[2][:, t], cache, pose)
        found.append(out)
    agree(torch.cat(found, dim=1), wanted)


@torch.no_grad()
def test_the_future_does_not_touch_the_past(arrays):
    model = predictor(extrinsics=False)
    (frames, actions, states), _ = inputs(arrays, extrinsics=False)
    before = model(frames, actions, states)
    last = frames.shape[1] - 16
    changed = [x.clone() for x in (frames, actions, states)]
    changed[0][:, last:] += 1.0
    changed[1][:, -1] += 1.0
    changed[2][:, -1] -= 1.0
    after = model(*changed)
    assert torch.equal(before[:, :last], after[:, :last])
    assert not torch.equal(before[:, last:], after[:, last:])


def test_poses(arrays):
    poses = arrays["poses"]
    agree(pose_diff(poses, poses.roll(-1, 0)), arrays["pose_diffs"])
    moved = apply_action(poses, arrays["pose_diffs"])
    agree(moved[:, :3], arrays["new_pose"][:, :3])
    turn = pose_diff(moved, torch.cat([moved[:, :3], arrays["new_pose"][:, 3:6], moved[:, 6:]], -1))
    agree(turn, torch.zeros_like(turn))
