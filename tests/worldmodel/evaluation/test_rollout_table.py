"""The table of rollout errors: a model that predicts no change is the copy, at every step."""

import math

import pytest
import torch

from worldmodel.evaluation.object_errors import pose_errors, yaw_difference
from worldmodel.evaluation.rollout_table import RolloutClips, rollout_table
from worldmodel.models.config import EncoderConfig, ObjectHeadConfig, PredictorConfig
from worldmodel.models.model_config import ModelConfig
from worldmodel.models.object_head import ObjectPose
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ObservationSpec


def still_world():
    """A model that predicts no change: a residual predictor whose output layer is zero."""
    torch.manual_seed(0)
    predictor = PredictorConfig(
        grid=(1, 1), encoder_dim=16, embed_dim=16, depth=1, num_heads=2, residual=True
    )
    config = ModelConfig(
        encoder=EncoderConfig(
            embed_dim=16, depth=0, num_heads=1, image_size=(32, 32), patch_size=32
        ),
        predictor=predictor,
        observation=ObservationSpec(image_size=(32, 32)),
        object_head=ObjectHeadConfig(token_dim=16, num_slots=1),
    )
    world = WorldModel.from_config(config).eval()
    torch.nn.init.zeros_(world.predictor.predictor_proj.weight)
    torch.nn.init.zeros_(world.predictor.predictor_proj.bias)
    return world


def clips_of(world, count=9, frames=6):
    """Clips whose first third is pushed, the second lifted, and the last one still."""
    z = torch.nn.functional.layer_norm(torch.randn(count, frames, 1, 16), (16,))
    poses = torch.full((count, frames, 2, 4), math.nan)
    poses[:, :, 0] = torch.tensor([0.5, 0.0, 0.02, 0.3])
    along = torch.linspace(0, 0.1, frames)
    poses[:6, :, 0, 1] += along
    poses[3:6, 1:-1, 0, 2] += 0.05
    return RolloutClips(
        z_CTND=z,
        states_CTS=torch.zeros(count, frames, 7),
        actions_CKA=torch.zeros(count, frames - 1, 7),
        poses_CTM4=poses,
    )


def test_no_change_is_the_copy_and_kinds_are_told_apart():
    world = still_world()
    table = rollout_table(world, world.object_head, clips_of(world), steps=(1, 3, 5))
    for rows in table.values():
        for row in rows.values():
            assert row["imagined_cm"] == pytest.approx(row["copy_cm"], abs=1e-3, nan_ok=True)
    counts = {kind: [row["clips"] for row in rows.values()] for kind, rows in table.items()}
    assert counts == {"pushed": [0, 3, 3], "lifted": [0, 3, 3], "still": [3, 3, 3]}
    assert table["pushed"]["5"]["moved_cm"] == pytest.approx(10)
    assert math.isnan(table["pushed"]["1"]["imagined_cm"])


def test_errors_are_those_of_the_nearest_likely_slot():
    pose = ObjectPose(
        position_m=torch.tensor([[[0.5, 0.0, 0.0], [0.5, 0.1, 0.0]]]),
        yaw_rad=torch.tensor([[1.5, 0.0]]),
        yaw_certainty=torch.ones(1, 2),
        presence=torch.tensor([[1.0, 0.01]]),
    )
    label = torch.tensor([[[0.5, 0.1, 0.0, -1.5]]])
    gap, turn = pose_errors(pose, label)  # the nearer slot is unlikely to hold an object
    assert float(gap) == pytest.approx(0.1)
    assert float(turn) == pytest.approx(math.pi - 3, abs=1e-5)
    assert pose_errors(pose, torch.full((1, 1, 4), math.nan))[0].isnan().all()
    assert float(yaw_difference(torch.tensor(0.2), torch.tensor(0.2 + math.pi))) < 1e-6
