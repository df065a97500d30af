"""Fast paths of CUDA give the answers of the plain ones; what can run on a CPU is run on it."""

import logging

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from worldmodel.models import attention, fastest, frame_mask, memory_parts
from worldmodel.models.attention import Attention, append, attend, set_backend
from worldmodel.models.fastest import Fastest
from worldmodel.models.frame_mask import FrameMask, attend_dense
from worldmodel.models.layers import LayerNorm
from worldmodel.models.memory_parts import MemoryParts
from worldmodel.models.merged_attention import attend_merged
from worldmodel.models.rope import ROTATE, grid_positions, rope_tables, rotate


def double(x, factor):
    return x * factor


@pytest.fixture
def on_cpu(monkeypatch):
    """Let `Fastest` try its second function on a CPU; functions take the time in `took`."""
    took = {}
    monkeypatch.setattr(fastest, "can_try", lambda x: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(
        fastest, "_milliseconds", lambda f, *args: f(*args) is not None and took[f.__name__]
    )
    return took


@pytest.mark.parametrize(("plain_ms", "fast_ms"), [(2.0, 1.0), (1.0, 2.0)])
def test_the_faster_function_is_chosen_once_for_each_kind(on_cpu, plain_ms, fast_ms):
    def quick(x, factor):
        return factor * x

    on_cpu.update(double=plain_ms, quick=fast_ms)
    made = []
    function = Fastest(double, lambda: made.append(1) or quick)
    for shape in ((3, 4, 5), (7, 4, 5), (3, 4, 6)):
        x = torch.randn(shape)
        torch.testing.assert_close(function(x, 2.0), 2 * x)
    assert made == [1]
    assert set(function.chosen.values()) == {quick if fast_ms < plain_ms else double}
    assert len(function.chosen) == 2


def test_a_function_that_fails_is_said_once_and_not_used(on_cpu, caplog):
    def broken(x, factor):
        raise RuntimeError("no Triton here")

    on_cpu["double"] = 1.0
    function, x = Fastest(double, lambda: broken), torch.ones(2, 3)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert torch.equal(function(x, 3.0), 3 * x)
    assert len(caplog.records) == 1
    assert "no Triton here" in caplog.text


@pytest.mark.parametrize("which", ["slow", "quick"])
def test_a_choice_inside_a_checkpoint_saves_what_the_recomputation_does(on_cpu, which):
    def quick(x, factor):
        return (factor * x.sin()).sin()

    def slow(x, factor):
        return factor * x.exp()

    on_cpu.update(slow=1.0 + (which == "quick"), quick=1.0 + (which == "slow"))
    function = Fastest(slow, lambda: quick)
    x = torch.randn(2, 3, requires_grad=True)
    checkpoint(lambda x: function(x, 2.0).cos(), x, use_reentrant=False).sum().backward()
    assert x.grad is not None
    (found,) = torch.autograd.grad(function(x, 2.0).cos().sum(), x)
    torch.testing.assert_close(x.grad, found)


def test_with_gradients_a_timed_run_has_a_backward_pass_that_accumulates_nothing():
    passes = []

    class Seen(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            passes.append(1)
            return gradient * 2

    layer, x = torch.nn.Linear(3, 3), torch.randn(2, 3, requires_grad=True)

    def pair(x, layer):
        return Seen.apply(layer(x)), x.detach()

    fastest.run_once(pair, x, layer)
    assert passes == [1]
    assert x.grad is None
    assert layer.weight.grad is None
    with torch.no_grad():
        fastest.run_once(pair, x, layer)
    fastest.run_once(pair, x.detach(), layer)
    fastest.run_once(lambda x: x.detach(), x)
    assert passes == [1]


def test_small_inputs_and_cpus_take_the_plain_function():
    function = Fastest(double, lambda: pytest.fail("made"))
    function(torch.ones(fastest.LEAST + 1), 2.0)


@torch.no_grad()
def test_the_compiled_rotation_is_the_plain_one():
    tables = [t[:, None, None] for t in rope_tables(grid_positions(2, 3, 4), 16, "tiled")]
    x = torch.randn(2, 24, 2, 3, 16).bfloat16()
    compiled = ROTATE.make_fast()(x, *tables)
    assert compiled.dtype == x.dtype
    torch.testing.assert_close(compiled, rotate(x, *tables), atol=1e-5, rtol=1e-2)


@torch.no_grad()
def test_attention_by_blocks_is_that_with_a_dense_mask():
    from torch.nn.attention.flex_attention import flex_attention

    mask = FrameMask(5, 66, torch.device("cpu"))
    q, k, v = torch.randn(3, 2, 2, 5 * 66, 16)
    want = attend_dense(q, k, v, mask)
    by_blocks = flex_attention(q, k, v, block_mask=mask.blocks)
    torch.testing.assert_close(by_blocks, want, atol=1e-5, rtol=0)
    for backend in ("auto", "sdpa", "plain"):
        torch.testing.assert_close(attend(q, k, v, mask, backend), want, atol=1e-5, rtol=0)
    frame = torch.arange(5).repeat_interleave(66)
    assert torch.equal(mask.dense, frame[:, None] >= frame)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_two_attentions_merged_are_one_over_both(dtype, most):
    q, k, v = torch.randn(3, 6, 2, 5, 16).to(dtype)
    past = tuple(torch.randn(2, 1, 2, 9, 16).to(dtype))
    want = attend(q, *append(past, (k, v)), None, "plain")
    found = attend_merged(q, (k, v), past)
    assert found.dtype == dtype
    torch.testing.assert_close(found, want, atol=most, rtol=0)
    one_sided = attend_merged(50 * q, (k, v), past)  # almost all weight on one key
    want = attend(50 * q, *append(past, (k, v)), None, "plain")
    torch.testing.assert_close(one_sided, want, atol=50 * most, rtol=0)


def test_a_backend_that_cannot_serve_falls_back_and_says_so_once(caplog):
    attention._say_once.cache_clear()
    layer = set_backend(Attention(32, 2), "flash")
    want = set_backend(Attention(32, 2), "sdpa")
    want.load_state_dict(layer.state_dict())
    x = torch.randn(2, 70, 32)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found, _ = layer.mix(layer.project(x, None))
    torch.testing.assert_close(found, want.mix(want.project(x, None))[0])
    assert len(caplog.records) == 1
    assert "flash to sdpa" in caplog.text


def test_layer_norm_on_a_cpu_is_torchs():
    plain, ours = torch.nn.LayerNorm(24), LayerNorm(24)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(3, 24).to(dtype)
        assert torch.equal(ours.to(dtype)(x), plain.to(dtype)(x))


def test_batches_are_encoded_in_parts_that_fit(monkeypatch):
    """An item takes 100 bytes, and 1000 are free: half of them hold five items."""
    cuda = torch.cuda
    for name, value in (
        ("reset_peak_memory_stats", None),
        ("memory_allocated", 300),
        ("max_memory_allocated", 300 + 100 * memory_parts.FIRST),
        ("memory_reserved", 500),
        ("mem_get_info", (800, 8000)),
    ):
        monkeypatch.setattr(cuda, name, lambda *_, value=value: value)
    sizes, in_parts = [], MemoryParts()

    def encode(items):
        sizes.append(len(items))
        return 2 * items

    items = torch.arange(14.0).view(14, 1)
    for _ in range(2):
        assert torch.equal(in_parts(encode, items, torch.device("cuda")), 2 * items)
    assert sizes == [2, 5, 5, 2, 5, 5, 4]
    sizes.clear()
    in_parts(encode, items, torch.device("cpu"))
    assert sizes == [14]


def test_a_mask_of_frames_is_made_once():
    mask = FrameMask(2, 3, torch.device("cpu"))
    assert mask.dense is mask.dense
    assert frame_mask.ATTEND.plain is attend_dense
