"""Measure the operators of the published predictor, each beside its alternatives.

    python benchmarks/gpu_kernels.py [--device cuda] [--size ac] [--groups step block] [--out FILE]

Groups: peaks (a large matrix product and a copy), elementwise (rotary embedding, layer norm, GELU),
block (one block, and all of an imagined step), attention (kernels at the planner's shape), frames
(attention with the frame mask, forward and backward) and step (post-training steps from features).
Rows are kept as they come: a run that follows a stopped one measures the rest.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from planning.apps.bench_planning import device_name
from planning.device_clock import clock
from worldmodel.atomic_io import write_json
from worldmodel.kept_results import KeptResults
from worldmodel.models.attention import attend
from worldmodel.models.config import PredictorConfig
from worldmodel.models.dynamics import LatentDynamics
from worldmodel.models.frame_mask import ATTEND, FrameMask, attend_dense
from worldmodel.models.kernels.compiled_blocks import END, START, compile_blocks
from worldmodel.models.layers import Block, LayerNorm
from worldmodel.models.model_config import DynamicsConfig
from worldmodel.models.rope import ROTATE, grid_positions, rope_tables, rotate
from worldmodel.specs import ActionSpec
from worldmodel.training.batches import Batch
from worldmodel.training.network_options import BlockConfig
from worldmodel.training.objective import Objective, ObjectiveConfig
from worldmodel.training.tasks.post import prepare_blocks

Run = Callable[[], object]
ROUNDS, SECONDS = 10, 1.5
"""Rounds of a row at most, and the time after which no other round begins [s]."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Shapes of a predictor, and the batches of the planner and of post-training."""

    side: int
    encoder: int
    width: int
    heads: int
    depth: int
    samples: int
    """Samples imagined at once."""
    frames: int
    """Frames that a clip's predictor reads."""
    clips: tuple[int, int]
    """Clips of a training step."""

    @property
    def tokens(self) -> int:
        """Tokens of a frame, with action and state."""
        return self.side**2 + 2

    @property
    def activation(self) -> int:
        """Bytes of one bfloat16 activation of all samples."""
        return 2 * self.samples * self.tokens * self.width

    def dynamics(self) -> LatentDynamics:
        """Build the predictor with random weights."""
        torch.manual_seed(0)
        predictor = PredictorConfig(
            grid=(self.side, self.side),
            encoder_dim=self.encoder,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.heads,
            num_frames=16,
        )
        return LatentDynamics(DynamicsConfig(predictor=predictor, action=ActionSpec()))


SIZES = {
    "ac": Size(
        side=16, encoder=1408, width=1024, heads=16, depth=24, samples=800, frames=15, clips=(8, 16)
    ),
    "tiny": Size(side=2, encoder=48, width=64, heads=2, depth=2, samples=4, frames=3, clips=(2, 4)),
}
"""`ac` is the published 305 M predictor for ViT-g; `tiny` tries the script itself."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """An alternative to measure."""

    name: str
    make: Callable[[], Run]
    """Prepares the inputs, and returns the function that is timed."""
    moved: float = 0.0
    """Fewest bytes that it must read and write."""
    flops: float = 0.0
    clips: int = 0
    """Clips of a training step."""


class Rows:
    """The rows of every group, at one size on one device."""

    def __init__(self, size: Size, device: str) -> None:
        self.size, self.device = size, device

    def randn(self, *shape: int) -> Tensor:
        """Return random bfloat16 numbers on the device."""
        return torch.randn(shape, device=self.device, dtype=torch.bfloat16)

    def peaks(self) -> Iterator[Row]:
        """Yield what shares are of: a large matrix product, and a copy of 1 GB."""
        n, count = (8192, 2**29) if self.device == "cuda" else (512, 2**20)

        def product() -> Run:
            a, b = self.randn(n, n), self.randn(n, n)
            return lambda: a @ b

        def copy() -> Run:
            source, kept = self.randn(count), self.randn(count)
            return lambda: kept.copy_(source)

        yield Row(name="matrix product", make=product, flops=2 * n**3)
        yield Row(name="copy", make=copy, moved=4 * count)

    def elementwise(self) -> Iterator[Row]:
        """Yield rotary embedding, layer norm, residual and norm, GELU, and its linear layer."""
        s = self.size
        head_dim = s.width // s.heads

        def rotation(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], Run]:
            def make() -> Run:
                x = self.randn(s.samples, s.tokens, 2, s.heads, head_dim)
                positions = grid_positions(1, 1, s.tokens).to(self.device)
                cos, sin = (t[:, None, None] for t in rope_tables(positions, head_dim, "tiled"))
                return lambda: function(x, cos, sin)

            return make

        def activation(function: Callable[[Tensor], object], width: int) -> Callable[[], Run]:
            def make() -> Run:
                x = self.randn(s.samples, s.tokens, width)
                return lambda: function(x)

            return make

        norm = LayerNorm(s.width, eps=1e-6).to(self.device, torch.bfloat16)
        exact = torch.nn.LayerNorm(s.width, eps=1e-6).to(self.device)
        wide = torch.nn.Linear(s.width, 4 * s.width).to(self.device, torch.bfloat16)
        for way, rotated in (
            ("eager", rotate),
            ("compiled", torch.compile(rotate, dynamic=True)),
            ("as shipped", ROTATE),
        ):
            yield Row(name=f"rotary, {way}", make=rotation(rotated), moved=4 * s.activation)
        norms: dict[str, Callable[[Tensor], object]] = {
            "norm, float32 round trip": lambda x: exact(x.float()).bfloat16(),
            "norm, as shipped": norm,
            "norm, compiled": torch.compile(norm),
            "residual and norm, as shipped": lambda x: norm(x.add_(x)),
            "residual and norm, compiled": torch.compile(lambda x: norm(x + x)),
        }
        for name, function in norms.items():
            yield Row(name=name, make=activation(function, s.width), moved=2 * s.activation)
        gelus: dict[str, Callable[[Tensor], object]] = {
            "gelu erf": F.gelu,
            "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
            "gelu erf, compiled": torch.compile(lambda x: F.gelu(x)),
        }
        for name, function in gelus.items():
            yield Row(name=name, make=activation(function, 4 * s.width), moved=8 * s.activation)
        flops = 8.0 * s.samples * s.tokens * s.width**2
        layers: dict[str, Callable[[Tensor], object]] = {
            "linear alone": wide,
            "linear and gelu": lambda x: F.gelu(wide(x)),
            "linear and gelu, compiled": torch.compile(lambda x: F.gelu(wide(x))),
        }
        for name, function in layers.items():
            yield Row(name=name, make=activation(function, s.width), flops=flops)

    def block_flops(self) -> float:
        """Return the FLOPs of a block for the frame of every sample."""
        s = self.size
        per_token = 24 * s.width**2 + 4 * s.tokens * s.width
        return float(s.samples * s.tokens * per_token)

    def block(self) -> Iterator[Row]:
        """Yield a block, and an imagined step of all samples, as shipped and compiled."""
        s = self.size

        def one(prepare: Callable[[Block], object]) -> Callable[[], Run]:
            def make() -> Run:
                block = Block(s.width, s.heads, 4 * s.width).to(self.device, torch.bfloat16)
                prepare(block)
                positions = grid_positions(1, 1, s.tokens).to(self.device)
                rope = rope_tables(positions, s.width // s.heads, "tiled")
                x = self.randn(s.samples, s.tokens, s.width)
                return lambda: block(x, rope)

            return make

        def step(prepare: Callable[[Block], object]) -> Callable[[], Run]:
            def make() -> Run:
                dynamics = s.dynamics().to(self.device).bfloat16()
                for block in dynamics.predictor.predictor_blocks:
                    assert isinstance(block, Block)
                    prepare(block)
                z_1ND, state_1S = self.randn(1, s.side**2, s.encoder).float(), self.randn(1, 7)
                actions_B1A = self.randn(s.samples, 1, 7).float()
                return lambda: dynamics.unroll(z_1ND, state_1S.float(), actions_B1A)

            return make

        for way, prepare in (("as shipped", _as_it_is), ("parts compiled", compile_blocks)):
            yield Row(name=f"block, {way}", make=one(prepare), flops=self.block_flops())
            flops = s.depth * self.block_flops()
            yield Row(name=f"imagined step, {way}", make=step(prepare), flops=flops)
        yield Row(name="block, compiled whole", make=one(Block.compile), flops=self.block_flops())

    def attention(self) -> Iterator[Row]:
        """Yield the attention kernels at the planner's shape."""
        s = self.size
        flops = 4.0 * s.samples * s.tokens**2 * s.width

        def kernel(use: Callable[[Tensor, Tensor, Tensor], object]) -> Callable[[], Run]:
            def make() -> Run:
                shape = (s.samples, s.heads, s.tokens, s.width // s.heads)
                q, k, v = (self.randn(*shape) for _ in range(3))
                return lambda: use(q, k, v)

            return make

        def chosen(backend: SDPBackend) -> Callable[[Tensor, Tensor, Tensor], object]:
            def use(q: Tensor, k: Tensor, v: Tensor) -> object:
                with sdpa_kernel(backend):
                    return F.scaled_dot_product_attention(q, k, v)

            return use

        yield Row(name="attention, as shipped", make=kernel(attend), flops=flops)
        for name in ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH"):
            make = kernel(chosen(getattr(SDPBackend, name)))
            yield Row(name=f"attention, {name.lower()}", make=make, flops=flops)
        package = kernel(lambda q, k, v: attend(q, k, v, None, "flash"))
        yield Row(name="attention, flash-attn", make=package, flops=flops)

    def frames(self) -> Iterator[Row]:
        """Yield attention with the frame mask, forward and backward, and without a mask."""
        s = self.size
        length = s.frames * s.tokens
        allowed = s.tokens**2 * s.frames * (s.frames + 1) // 2
        flops = 14.0 * s.clips[0] * allowed * s.width  # two products forward, five backward

        def both(use: Callable[[Tensor, Tensor, Tensor, FrameMask], Tensor]) -> Callable[[], Run]:
            def make() -> Run:
                shape = (s.clips[0], s.heads, length, s.width // s.heads)
                q, k, v = (self.randn(*shape).requires_grad_() for _ in range(3))
                mask, pull = FrameMask(s.frames, s.tokens, q.device), self.randn(*shape)
                return lambda: torch.autograd.grad(use(q, k, v, mask), (q, k, v), pull)

            return make

        def plain(causal: bool) -> Callable[[Tensor, Tensor, Tensor, FrameMask], Tensor]:
            return lambda q, k, v, _: F.scaled_dot_product_attention(q, k, v, is_causal=causal)

        blocks = ATTEND.make_fast()
        yield Row(name="frame mask, dense", make=both(attend_dense), flops=flops)
        yield Row(name="frame mask, by blocks", make=both(blocks), flops=flops)
        yield Row(name="frame mask, as shipped", make=both(ATTEND), flops=flops)
        yield Row(name="no mask", make=both(plain(causal=False)), flops=flops)
        yield Row(name="causal by token", make=both(plain(causal=True)), flops=flops)

    def step(self) -> Iterator[Row]:
        """Yield post-training steps from features."""
        few, many = self.size.clips
        ways: tuple[tuple[int, bool, Literal["plain", "fast"], bool], ...] = (
            (few, True, "fast", False),
            (few, True, "plain", False),
            (few, False, "fast", False),
            (few, False, "plain", False),
            (few, False, "plain", True),
            (many, True, "fast", False),
            (many, True, "plain", False),
            (many, False, "fast", False),
            (many, False, "plain", True),
        )
        for clips, checkpoint, mask, whole in ways:
            words = [f"step of {clips}", "blocks" if mask == "fast" else "dense"]
            words += ["checkpointed"] if checkpoint else []
            words += ["compiled"] if whole else []
            options = BlockConfig(compile=whole, checkpoint_activations=checkpoint)
            yield Row(
                name=", ".join(words), make=self._training_step(clips, options, mask), clips=clips
            )

    def _training_step(
        self, clips: int, options: BlockConfig, mask: Literal["plain", "fast"]
    ) -> Callable[[], Run]:
        s = self.size

        def make() -> Run:
            dynamics = s.dynamics().to(self.device)
            prepare_blocks(dynamics, options)
            objective = Objective(dynamics, ObjectiveConfig())
            fused = True if self.device == "cuda" else None
            optimizer = torch.optim.AdamW(objective.parameters(), fused=fused)
            batch: Batch = {
                "features": self.randn(clips, s.frames + 1, s.side**2, s.encoder).float(),
                "states": self.randn(clips, s.frames + 1, 7).float(),
                "actions": self.randn(clips, s.frames, 7).float(),
            }

            def run() -> None:
                with ATTEND.use(mask):  # of the recomputation, too
                    with torch.autocast(self.device, torch.bfloat16):
                        loss = objective(batch)["loss"]
                    loss.backward()
                torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            return run

        return make


def _as_it_is(_: Block) -> None:
    """Leave a block as it is."""


GROUPS: dict[str, Callable[[Rows], Iterator[Row]]] = {
    name: getattr(Rows, name)
    for name in ("peaks", "elementwise", "block", "attention", "frames", "step")
}
TRAINED = ("frames", "step")
"""Groups that need gradients."""


def timed(row: Row, device: str) -> dict[str, float]:
    """Return the median time of a row [ms], and its peak memory [GB]."""
    run = row.make()
    cuda = device == "cuda"
    for _ in range(2):  # compiles, and chooses kernels
        run()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    while len(seconds) < ROUNDS and (len(seconds) < 3 or sum(seconds) < SECONDS):
        began = clock(device)
        run()
        seconds.append(clock(device) - began)
    peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else 0.0
    return {"ms": 1e3 * statistics.median(seconds), "peak_gb": peak}


def measure(row: Row, device: str, *, gradients: bool) -> dict[str, Any]:
    """Measure a row; an alternative that fails is a row with an error."""
    with ExitStack() as stack:
        for parts in (START, END):
            stack.enter_context(parts.use("fast"))
        if not gradients:
            stack.enter_context(torch.inference_mode())
        try:
            found: dict[str, Any] = timed(row, device)
        except Exception as error:  # noqa: BLE001 - whatever fails, the other rows are measured
            return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    seconds = found["ms"] / 1e3
    if row.moved:
        found["gb_per_s"] = row.moved / seconds / 1e9
    if row.flops:
        found["tflops"] = row.flops / seconds / 1e12
    if row.clips:
        found["samples_per_s"] = row.clips / seconds
    return found


def with_shares(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with their shares of the measured peak and of the copy's bandwidth."""
    peaks = {
        key: rows.get(name, {}).get(key)
        for name, key in (("matrix product", "tflops"), ("copy", "gb_per_s"))
    }
    out = []
    for name, row in rows.items():
        shares = {
            f"share_{key}": row[key] / top for key, top in peaks.items() if top and key in row
        }
        out.append({"name": name, **row, **shares})
    return out


def main() -> None:
    """Measure the rows of all groups; print and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--size", default="ac", choices=list(SIZES))
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--out", type=Path, default=Path("runs/gpu/kernels.json"))
    options = parser.parse_args()
    made_by = {"size": options.size, "device": device_name(options.device)}
    made_by["torch"] = torch.__version__
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, Any]] = {}
    with KeptResults(options.out.with_suffix(".jsonl"), made_by) as kept:
        for group in options.groups:
            for row in GROUPS[group](Rows(SIZES[options.size], options.device)):
                found = kept.get(row.name)
                if not isinstance(found, dict):
                    found = measure(row, options.device, gradients=group in TRAINED)
                    if options.device == "cuda":
                        torch.cuda.empty_cache()
                    if "error" not in found:
                        kept.add(row.name, found)
                rows[row.name] = found
                last = with_shares(rows)[-1]
                print(last, flush=True)
                write_json(options.out, {**made_by, "rows": with_shares(rows)})


if __name__ == "__main__":
    main()
