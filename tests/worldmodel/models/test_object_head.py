"""The object head learns poses from one label a frame, and travels inside the model's file."""

import dataclasses

import pytest
import torch

from worldmodel import load_world_model
from worldmodel.checkpoints.io import save
from worldmodel.errors import ConfigError
from worldmodel.models.config import EncoderConfig, ObjectHeadConfig, PredictorConfig
from worldmodel.models.model_config import ModelConfig
from worldmodel.models.object_head import ObjectHead
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ObservationSpec

CONFIG = ObjectHeadConfig(token_dim=16, num_tokens=1, hidden_dim=64)


def scenes(count, generator):
    """Tokens that hold two poses, the second only if the scene has two objects."""
    place_F23 = torch.rand(count, 2, 3, generator=generator) * 0.3 + torch.tensor([0.35, -0.15, 0])
    place_F23[:, :, 1] = place_F23[:, :, 1].abs() * torch.tensor([1.0, -1.0])  # left and right
    yaw_F2 = torch.rand(count, 2, generator=generator) * 3 - 1.5
    two_F = torch.rand(count, generator=generator) < 0.5
    turn = torch.stack([(2 * yaw_F2).cos(), (2 * yaw_F2).sin()], -1)
    parts = torch.cat([(place_F23 - 0.4) * 5, turn], -1)
    parts[:, 1] *= two_F[:, None]
    z = torch.cat([parts.flatten(1), two_F[:, None].float(), torch.zeros(count, 5)], -1)
    return z[:, None], place_F23, yaw_F2, two_F


def trained_head(steps=600):
    torch.manual_seed(0)
    head, generator = ObjectHead(CONFIG), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        z, place, yaw, two = scenes(256, generator)
        which = (torch.rand(256, generator=generator) < 0.5) & two  # the one that was grasped
        i = torch.arange(256), which.long()
        known = torch.rand(256, generator=generator) < 0.7
        label = torch.cat([place[i], yaw[i][:, None]], -1)
        loss = head.loss(z, torch.where(known[:, None], label, torch.nan)[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head


def test_finds_both_objects_from_one_label_a_frame():
    head = trained_head()
    z, place, yaw, two = scenes(500, torch.Generator().manual_seed(9))
    found = head.locate(z)
    gap_FMO = torch.cdist(found.position_m, place)
    assert gap_FMO[:, :, 0].amin(1).median() < 0.015
    assert gap_FMO[two][:, :, 1].amin(1).median() < 0.015
    best = gap_FMO[:, :, 0].argmin(1, keepdim=True)
    turned = torch.remainder(found.yaw_rad.gather(1, best)[:, 0] - yaw[:, 0] + 1.5708, 3.1416)
    assert (turned - 1.5708).abs().median() < 0.1
    assert found.presence.amax(1).eq(1).all()
    weaker = found.presence.amin(1)
    assert weaker[two].median() > 0.3 > 0.1 > weaker[~two].median()


def test_loss_ignores_frames_without_a_label():
    head = ObjectHead(CONFIG)
    z, place, yaw, _ = scenes(8, torch.Generator().manual_seed(1))
    label = torch.cat([place[:, :1], yaw[:, :1, None]], -1)
    label[1::2] = torch.nan
    loss = head.loss(z, label)
    assert torch.allclose(loss, head.loss(z[::2], label[::2]))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())
    assert head.loss(z, torch.full_like(label, torch.nan)) == 0


def two_objects(count=6):
    head = ObjectHead(CONFIG)
    z, place, yaw, _ = scenes(count, torch.Generator().manual_seed(2))
    return head, z, torch.cat([place, yaw[..., None]], -1)


def test_order_of_the_objects_and_unknown_objects_change_nothing():
    head, z, poses = two_objects()
    loss = head.loss(z, poses)
    assert torch.allclose(head.loss(z, poses.flip(1)), loss)
    unknown = torch.full_like(poses[:, :1], torch.nan)
    for order in ([0, 1, 2], [0, 2, 1], [2, 0, 1]):
        more = torch.cat([poses, unknown], 1)[:, order]
        assert torch.allclose(head.loss(z, more), loss)
    one = torch.cat([poses[:, :1], unknown], 1)
    assert torch.allclose(head.loss(z, one), head.loss(z, poses[:, :1]))


def test_an_object_without_a_yaw_teaches_its_position_or_that_it_has_none():
    head, z, poses = two_objects()
    poses[..., 3] = torch.nan
    place = (poses[..., :3] - torch.tensor(CONFIG.centre_m)) / CONFIG.scale_m
    losses = {}
    for length in (0.0, 1.0):
        turn = torch.tensor([length, 0.0]).expand(*place.shape[:-1], 2)
        out = torch.cat([place, turn, torch.zeros(6, 2, 1)], -1)
        head.forward = lambda _, out=out: out
        losses[length] = [float(head.loss(z, poses, yaws_known=k)) for k in (False, True)]
    assert losses[0.0][0] == losses[1.0][0] == losses[0.0][1]
    assert losses[1.0][1] > losses[0.0][1] + 0.1


def test_two_objects_take_two_slots():
    """Slots that both decode one of the objects cost more than one slot for each of them."""
    head, z, poses = two_objects()
    place = (poses[..., :3] - torch.tensor(CONFIG.centre_m)) / CONFIG.scale_m
    turn = torch.stack([(2 * poses[..., 3]).cos(), (2 * poses[..., 3]).sin()], -1)
    out = torch.cat([place, turn, torch.zeros(6, 2, 1)], -1)
    both, first = out[:, [1, 0]], out[:, [0, 0]]
    head.forward = lambda _: both
    apart = head.loss(z, poses)
    head.forward = lambda _: first
    assert float(apart) < 0.05 < 0.1 < float(head.loss(z, poses))


def test_a_head_with_simulator_labels_finds_all_objects():
    torch.manual_seed(0)
    head, generator = ObjectHead(CONFIG), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 400)
        z, place, yaw, two = scenes(256, generator)
        poses = torch.cat([place, yaw[..., None]], -1)
        poses[~two, 1] = torch.nan
        loss = head.loss(z, poses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z, place, yaw, two = scenes(500, torch.Generator().manual_seed(9))
    found = head.locate(z)
    gap_FMO = torch.cdist(found.position_m, place)
    assert (gap_FMO.amin(1)[:, 0].median(), gap_FMO.amin(1)[two][:, 1].median()) < (0.015, 0.015)
    weaker = found.presence.amin(1)
    assert weaker[two].median() > 0.6 > 0.05 > weaker[~two].median()


def test_travels_inside_the_model_file(tmp_path):
    encoder = EncoderConfig(image_size=(32, 32), embed_dim=16, depth=0, num_heads=1, patch_size=32)
    predictor = PredictorConfig(grid=(1, 1), encoder_dim=16, embed_dim=16, depth=1, num_heads=1)
    config = ModelConfig(
        encoder=encoder,
        predictor=predictor,
        observation=ObservationSpec(image_size=(32, 32)),
        object_head=CONFIG,
        home_head=dataclasses.replace(CONFIG, hidden_dim=32),
    )
    world = WorldModel.from_config(config)
    save(tmp_path / "with.safetensors", world)
    again = load_world_model(tmp_path / "with.safetensors", "cpu")
    z = torch.randn(3, 1, 16)
    assert torch.allclose(again.locate(z).position_m, world.locate(z).position_m, atol=1e-6)
    at_home = world.locate_at_home(z).position_m
    assert torch.allclose(again.locate_at_home(z).position_m, at_home, atol=1e-6)
    assert not torch.allclose(world.locate(z).position_m, at_home, atol=1e-3)
    assert again.config == world.config
    without = WorldModel.from_config(dataclasses.replace(config, home_head=None))
    assert torch.equal(without.locate_at_home(z).position_m, without.locate(z).position_m)
    other = dataclasses.replace(CONFIG, num_tokens=4)
    for name in ("object", "home"):
        with pytest.raises(ConfigError, match=f"{name} head reads 4 tokens"):
            dataclasses.replace(config, **{f"{name}_head": other})


def test_models_without_a_head_locate_nothing():
    world = load_world_model("default", "cpu")
    assert world.locate(torch.randn(1, 1, 256)) is None
    assert world.config.object_head is None
