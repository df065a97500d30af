"""Probe latents with small networks fitted on training episodes and tested on unseen ones.

Shapes: F frames, D features, T targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.data.clip_source import ClipSource
from worldmodel.models.energy import token_distance
from worldmodel.models.world_model import WorldModel

MOVED_M = 0.01
"""Displacement between two frames above which an object counts as moving [m]."""


def fit_probe(
    x_FD: Tensor, y_FT: Tensor, *, hidden: int = 128, steps: int = 1500, seed: int = 0
) -> nn.Module:
    """Fit a probe with one hidden layer and input standardisation by smooth L1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(x_FD.shape[1], hidden), nn.GELU(), nn.Linear(hidden, y_FT.shape[1])
        )
    x_mean, x_std = x_FD.mean(0), x_FD.std(0) + 1e-3
    y_mean, y_std = y_FT.mean(0), y_FT.std(0) + 1e-6
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        pick = torch.randint(len(x_FD), (512,), generator=generator)
        loss = F.smooth_l1_loss(
            net((x_FD[pick] - x_mean) / x_std), (y_FT[pick] - y_mean) / y_std, beta=0.1
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _Standardised(net, x_mean, x_std, y_mean, y_std)


class _Standardised(nn.Module):
    def __init__(self, net: nn.Module, *stats: Tensor) -> None:
        super().__init__()
        self.net, self.stats = net, stats

    @torch.no_grad()
    def forward(self, x_FD: Tensor) -> Tensor:
        x_mean, x_std, y_mean, y_std = self.stats
        out: Tensor = self.net((x_FD - x_mean) / x_std) * y_std + y_mean
        return out


@torch.no_grad()
def _gather(world: WorldModel, clips: ClipSource, count: int, seed: int) -> dict[str, Tensor]:
    """Return encoded and one-step predicted latents of two-frame windows, and their targets."""
    device = world.encoder.device
    rng = np.random.default_rng(seed)
    picked = rng.choice(len(clips), size=min(count, len(clips)), replace=False)
    rows: dict[str, list[Tensor]] = {}
    for start in range(0, len(picked), 64):
        batch = clips.batch(picked[start : start + 64])
        frames = torch.from_numpy(batch["frames"][:, :2])
        z = world.encode(frames.flatten(0, 1)).unflatten(0, (-1, 2))
        states = torch.from_numpy(batch["states"][:, :2]).to(device, torch.float32)
        actions = torch.from_numpy(batch["actions"][:, :1]).to(device, torch.float32)
        predicted = world.predict(z[:, :1], actions, states[:, :1])[:, 0]
        wrong = world.predict(z[:, :1], actions.roll(1, 0), states[:, :1])[:, 0]
        pixels = world.encoder.pixels(frames[:, 1].flatten(0, -4))
        small = F.avg_pool2d(pixels, frames.shape[-3] // 32).reshape(len(frames), -1)
        found = {
            "encoded": z[:, 1].flatten(1),
            "before": z[:, 0].flatten(1),
            "predicted": predicted.flatten(1),
            "pixels": small,
            "state": world.dynamics.scale_state(states[:, 1]),
            "object": torch.from_numpy(batch["objects"][:, 1]).float(),
            "object_before": torch.from_numpy(batch["objects"][:, 0]).float(),
            "tcp": states[:, 1, :3],
            "closed": states[:, 1, 6:],
            "loss_true": token_distance(predicted, z[:, 1]),
            "loss_copy": token_distance(z[:, 0], z[:, 1]),
            "loss_shuffled": token_distance(wrong, z[:, 1]),
        }
        for name, value in found.items():
            rows.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(parts) for name, parts in rows.items()}


def _distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm(dim=-1).mean())


def probe_world_model(
    world: WorldModel,
    clips: ClipSource,
    unseen: ClipSource,
    *,
    count: int = 6000,
    steps: int = 1500,
    seed: int = 0,
) -> dict[str, Any]:
    """Return mean decoding errors [m] on unseen episodes, and prediction losses.

    The object position is decoded from encoded frames and from one-step predictions of frames in
    which it moved. Baselines decode it from a copy of the previous frame, from raw pixels (32 x 32)
    and from the robot state alone.
    """
    train, test = _gather(world, clips, count, seed), _gather(world, unseen, count // 3, seed + 1)
    moving = (test["object"] - test["object_before"]).norm(dim=-1) > MOVED_M
    probe = fit_probe(train["encoded"], train["object"], steps=steps, seed=seed)
    probe_predicted = fit_probe(train["predicted"], train["object"], steps=steps, seed=seed)
    pixels = fit_probe(train["pixels"], train["object"], steps=steps, seed=seed)
    state = fit_probe(train["state"], train["object"], steps=steps, seed=seed)
    tcp = fit_probe(train["encoded"], train["tcp"], steps=steps, seed=seed)
    closed = fit_probe(train["encoded"], train["closed"], steps=steps, seed=seed)
    truth, moved = test["object"], test["object"][moving]
    return {
        "object_encoded_m": _distance(probe(test["encoded"]), truth),
        "object_encoded_moving_m": _distance(probe(test["encoded"][moving]), moved),
        "object_predicted_m": _distance(probe_predicted(test["predicted"][moving]), moved),
        "object_copy_m": _distance(probe(test["before"][moving]), moved),
        "object_raw_pixels_m": _distance(pixels(test["pixels"]), truth),
        "object_robot_state_m": _distance(state(test["state"]), truth),
        "tcp_encoded_m": _distance(tcp(test["encoded"]), test["tcp"]),
        "closedness_encoded": float((closed(test["encoded"]) - test["closed"]).abs().mean()),
        "loss_true": float(test["loss_true"].mean()),
        "loss_copy": float(test["loss_copy"].mean()),
        "loss_shuffled": float(test["loss_shuffled"].mean()),
        "frames": len(truth),
        "frames_moving": int(moving.sum()),
    }
