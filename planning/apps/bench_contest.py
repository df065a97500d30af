"""The implementations of the planning loop that the benchmark compares."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from planning.bounds import Bounds
from planning.device_clock import clock
from planning.energy import energy
from planning.errors import PlanError
from planning.solvers.cem import CEM
from robot.pose import apply_action
from worldmodel.models.config import EncoderConfig, PredictorConfig
from worldmodel.models.kernels import optimize_for_cpu
from worldmodel.models.kernels.compiled_blocks import compile_blocks
from worldmodel.models.model_config import ModelConfig
from worldmodel.models.world_model import WorldModel, normalise
from worldmodel.specs import ObservationSpec

SIZES: dict[str, dict[str, int]] = {
    "small": {"side": 1, "encoder": 256, "width": 256, "depth": 4, "heads": 4},
    "medium": {"side": 8, "encoder": 384, "width": 384, "depth": 6, "heads": 6},
    "ac-vitl": {"side": 16, "encoder": 1024, "width": 1024, "depth": 24, "heads": 16},
    "ac": {"side": 16, "encoder": 1408, "width": 1024, "depth": 24, "heads": 16},
}
"""Predictor shapes: `small` of the embedded model, `ac` of the published 305 M predictor for ViT-g,
`ac-vitl` of the same for ViT-L."""
Imagine = Callable[[Tensor], Tensor]
"""Function from actions [B, K, 7] to predicted tokens [B, K, N, D]."""


def make_world(size: str) -> WorldModel:
    """Create a world model with random weights and a predictor of a given size.

    Raises:
        PlanError: Unknown size.
    """
    if size not in SIZES:
        raise PlanError(f"size={size} is not available. Choose one of: {', '.join(SIZES)}.")
    s = SIZES[size]
    torch.manual_seed(0)
    predictor = PredictorConfig(
        grid=(s["side"], s["side"]),
        encoder_dim=s["encoder"],
        embed_dim=s["width"],
        depth=s["depth"],
        num_heads=s["heads"],
        num_frames=16,
    )
    encoder = EncoderConfig(embed_dim=s["encoder"], depth=0, num_heads=1)
    config = ModelConfig(encoder=encoder, predictor=predictor, observation=ObservationSpec())
    world = WorldModel.from_config(config)
    return world.eval().requires_grad_(False)


def whole_history(world: WorldModel, z: Tensor, state: Tensor, actions_BKA: Tensor) -> Tensor:
    """Predict as published: whole history, new mask at each step, poses in NumPy.

    With a model optimised for the CPU, the remaining difference is the gain of caching.
    """
    batch, horizon = actions_BKA.shape[:2]
    frames, states = z.expand(batch, -1, -1)[:, None], state.expand(batch, -1)[:, None]
    out = []
    for k in range(horizon):
        world.predictor._masks.clear()  # noqa: SLF001 - the published module makes it each step
        found = world.predict(frames, actions_BKA[:, : k + 1], states)[:, -1:]
        out.append(found)
        frames = torch.cat([frames, found], 1)
        after = apply_action(states[:, -1].cpu().numpy(), actions_BKA[:, k].cpu().numpy())
        new = torch.from_numpy(np.asarray(after, dtype=np.float32)).to(z.device)
        states = torch.cat([states, new[:, None]], 1)
    return torch.cat(out, 1)


def step_flops(size: str) -> float:
    """Count the FLOPs of one sample's predicted step, two per multiply-add."""
    s = SIZES[size]
    tokens = s["side"] ** 2 + 2
    return 2.0 * tokens * s["depth"] * 12 * s["width"] ** 2


def chunked(imagine: Imagine, chunk: int) -> Imagine:
    """Predict in chunks of `chunk` samples and return the last frames [B, N, D]."""
    return lambda actions: torch.cat([imagine(part)[:, -1] for part in actions.split(chunk)])


def _optimized(world: WorldModel) -> WorldModel:
    """Return a copy of a model with the optimised layers of its device."""
    copied = copy.deepcopy(world)
    return optimize_for_cpu(copied) if next(copied.parameters()).device.type == "cpu" else copied


class Contest:
    """The implementations under comparison, on one model, one current frame and one goal."""

    def __init__(self, size: str, device: str) -> None:
        self.device = device
        self.plain = make_world(size).to(device)
        self.world, self.half = _optimized(self.plain), _optimized(self.plain)
        self.half.predictor.to(torch.bfloat16)
        self.compiled = compile_blocks(copy.deepcopy(self.half))
        self.generator = torch.Generator().manual_seed(1)
        s = SIZES[size]
        tokens = torch.randn(2, s["side"] ** 2, s["encoder"], generator=self.generator)
        self.z, self.goal = normalise(tokens.to(device)).split(1)
        self.state = torch.tensor([[0.5, 0.0, 0.3, 3.0, 0.0, 0.0, 0.0]], device=device)

    def baseline(self, actions: Tensor) -> Tensor:
        """Predict as published."""
        return whole_history(self.plain, self.z, self.state, actions.to(self.device))

    def exact(self, actions: Tensor) -> Tensor:
        """Predict with cached keys and values in float32."""
        return self.world.unroll(self.z, self.state, actions.to(self.device))

    def bf16(self, actions: Tensor) -> Tensor:
        """Predict with cached keys and values in bfloat16."""
        return self.half.unroll(self.z, self.state, actions.to(self.device))

    def with_compiled_blocks(self, actions: Tensor) -> Tensor:
        """Predict as `bf16` does, with compiled blocks."""
        return self.compiled.unroll(self.z, self.state, actions.to(self.device))

    def same_products(self, actions: Tensor) -> Tensor:
        """Predict as published, with our matrix products."""
        return whole_history(self.world, self.z, self.state, actions.to(self.device))

    def seconds(
        self, imagine: Imagine, solver: CEM, horizon: int, chunk: int
    ) -> tuple[float, float]:
        """Time one search; return its time [s] and energy."""
        ends = chunked(imagine, chunk)
        began = clock(self.device)
        plan = solver.minimise(
            lambda actions: energy(ends(actions), self.goal),
            Bounds(gripper="published"),
            torch.Generator().manual_seed(0),
            horizon=horizon,
        )
        return clock(self.device) - began, plan.energy
