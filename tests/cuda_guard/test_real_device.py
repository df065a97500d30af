"""A real CUDA device computes what the CPU computes, and the host waits where it is allowed to.

The cases are the guard's, which run on a make-believe device in every test run. Here their numbers
are compared: in float32, without TensorFloat-32, and in bfloat16. The largest differences are
printed (`pytest -m gpu -s`).
"""

import math

import pytest
import torch
from torch.nn import functional as F

from tests.cuda_guard.cases import CASES
from tests.cuda_guard.guards import LOGGED_WAITS, NUM_ITERATIONS, NUM_PLANS, PLAN_WAITS, STEP_WAITS
from tests.cuda_guard.ledger import Ledger
from tests.cuda_guard.real_device import RealLedger, errors, numbers, watched
from worldmodel.models.attention import append
from worldmodel.models.fastest import LEAST
from worldmodel.models.frame_mask import ATTEND, FrameMask, attend_dense
from worldmodel.models.merged_attention import attend_merged
from worldmodel.models.rope import ROTATE, grid_positions, rope_tables, rotate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TRAININGS = sorted(name for name in CASES if name.startswith("train_"))
PLANS = sorted(name for name in CASES if name.startswith(("plan_", "captured")))
ALIKE = (
    *("encode", "unroll", "skills", "energies", "features", "probe_heads", "inspected"),
    *("surprise", "pretrain_graphed", *PLANS, *TRAININGS),
)
"""Cases whose float32 results do not depend on the device."""
RUN_ONLY = ("bfloat16", "surprise_bfloat16", "policies", "decoder")
"""Cases in the device's own precision."""
LOW_TRAININGS = ("train_finetune", "train_frozen", "train_images", "train_post", "train_pretrain")
LOW = ("encode", "unroll", "features", "surprise", *LOW_TRAININGS)
"""Cases whose results bfloat16 changes by rounding alone: no best of several is chosen, and no
encoder begins with features that hardly differ between frames."""
PLAN_UPLOADS = {"planning/plan_cost.py:_imagine": 1, "elsewhere": 3}
"""Where a plan copies from the host's pageable memory, and how often: the four plans of the
gripper's decision, and the three inputs of the case itself."""
LOSSES = ("loss", "val_true", "val_loss")
LOOSE = {"probe_heads": 2e-2, "inspected": 1e-2, "pretrain_graphed": 1e-2} | dict.fromkeys(
    TRAININGS, 1e-2
)
"""Largest relative difference of cases that take optimiser steps: Adam's first steps follow the
sign of a gradient, however small. `probe_heads` has heads in 16 bits."""


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    """Compute float32 products in float32, and keep them so whatever a case asks for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda _: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    monkeypatch.undo()
    torch.set_float32_matmul_precision(before)


def results(name, ledger):
    torch.manual_seed(0)
    return numbers(CASES[name](ledger))


def compare(name, kind, found, wanted, allowed):
    gaps = errors(found, wanted)
    assert gaps, name
    worst = max(gaps, key=gaps.__getitem__)
    print(f"AGREEMENT {name} {kind}: {gaps[worst]:.1e} of the norm ({worst or 'result'})")
    assert gaps[worst] <= allowed, {k: v for k, v in gaps.items() if v > allowed}


@pytest.mark.parametrize("name", ALIKE)
def test_float32_on_the_device_equals_the_cpu(name):
    wanted = results(name, Ledger(device="cpu", low=False))
    found = results(name, Ledger(device="cuda", low=False))
    compare(name, "float32", found, wanted, LOOSE.get(name, 1e-3))


@pytest.mark.parametrize("name", LOW)
def test_bfloat16_on_the_device_is_near_float32(name):
    wanted = results(name, Ledger(device="cuda", low=False))
    found = results(name, Ledger(device="cuda", low=True))
    if name in LOW_TRAININGS:
        wanted, found = ({k: v for k, v in x.items() if k in LOSSES} for x in (wanted, found))
    compare(name, "bfloat16", found, wanted, 3e-2)


@pytest.mark.parametrize("name", RUN_ONLY)
def test_what_uses_the_precision_of_the_device_runs(name):
    for value in results(name, Ledger(device="cuda")).values():
        assert math.isfinite(value.sum())


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_step_waits_where_it_is_allowed_to(name):
    ledger = RealLedger(device="cuda")
    with watched(ledger):
        results(name, ledger)
    allowed = LOGGED_WAITS if name.endswith("logged") else STEP_WAITS
    print(f"WAITS {name}: {dict(ledger.waits)}")
    assert ledger.waits.keys() <= {wait.split(" at ")[1] for wait in allowed}


@pytest.mark.parametrize("name", ["captured", "captured_together"])
def test_later_plans_replay_the_graphs_of_the_first(name):
    ledger = RealLedger(device="cuda")
    with watched(ledger):
        results(name, ledger)
    print(f"WAITS {name}: {dict(ledger.waits)}, {ledger.replays} replays")
    assert not ledger.captures
    assert ledger.replays >= NUM_PLANS * NUM_ITERATIONS
    allowed = PLAN_WAITS | PLAN_UPLOADS
    for place, count in ledger.waits.items():
        assert count <= NUM_PLANS * allowed[place], place


def test_torch_warns_of_a_wait():
    ledger = RealLedger(device="cuda")
    with watched(ledger):
        ledger.begin_step()
        float(ledger.randn(3).sum())
        ledger.end_step()
    assert sum(ledger.waits.values()) >= 1


def near(found, wanted, allowed):
    found, wanted = found.detach().float(), wanted.detach().float()
    gap = float((found - wanted).norm() / wanted.norm())
    assert gap <= allowed, gap


def randn(*shape, dtype=torch.bfloat16):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).cuda().to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@torch.no_grad()
def test_merged_attention_equals_attention_to_copied_keys(dtype):
    q, k, v = randn(3, 6, 4, 258, 64, dtype=dtype).unbind(0)
    past = randn(2, 1, 4, 258, 64, dtype=dtype).unbind(0)
    k_all, v_all = (x.float() for x in append(past, (k, v)))
    wanted = F.scaled_dot_product_attention(q.float(), k_all, v_all)
    near(attend_merged(q, (k, v), past), wanted, 1e-2 if dtype == torch.bfloat16 else 1e-5)


def test_the_chosen_rotary_embedding_equals_the_plain_one():
    qk = randn(LEAST // (258 * 2 * 16 * 64) + 1, 258, 2, 16, 64)
    tables = rope_tables(grid_positions(1, 1, 258).cuda(), 64, "tiled")
    cos, sin = (t[:, None, None] for t in tables)
    near(ROTATE(qk, cos, sin), rotate(qk.float(), cos, sin), 1e-2)
    assert ROTATE.fast is not None
    near(ROTATE.fast(qk, cos, sin), rotate(qk, cos, sin), 1e-2)


def test_frame_causal_attention_by_blocks_equals_the_dense_mask():
    mask = FrameMask(5, 258, torch.device("cuda"))
    inputs = [x.requires_grad_() for x in randn(3, 4, 16, 5 * 258, 64).unbind(0)]
    exact = [x.detach().float().requires_grad_() for x in inputs]
    ATTEND(*inputs, mask)  # measures both
    assert ATTEND.fast is not None
    found, wanted = ATTEND.fast(*inputs, mask), attend_dense(*exact, mask)
    near(found, wanted, 1e-2)
    pull = torch.randn_like(wanted)
    gradients = torch.autograd.grad(found, inputs, pull.to(found.dtype))
    for gradient, want in zip(gradients, torch.autograd.grad(wanted, exact, pull), strict=True):
        near(gradient, want, 2e-2)
