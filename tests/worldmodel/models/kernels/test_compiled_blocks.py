"""Blocks with compiled parts compute what plain ones do."""

import copy
import pickle

import pytest
import torch

from tests.cuda_guard.models import TOKENS, WIDTH, small_encoder, small_world
from worldmodel.models import fastest
from worldmodel.models.kernels import compiled_blocks
from worldmodel.models.kernels.compiled_blocks import END, START, CompiledBlock, compile_blocks
from worldmodel.models.layers import Block
from worldmodel.models.rope import grid_positions, rope_tables


def imagined(world):
    """Return what a world model imagines, with earlier frames and without."""
    torch.manual_seed(0)
    given = [torch.randn(shape) for shape in ((1, TOKENS, WIDTH), (1, 7), (3, 2, 7))]
    past = world.remember(given[0][:, None], given[1][:, None], given[2][:1, :1])
    return torch.stack([world.unroll(*given), world.unroll(*given, past)])


@pytest.fixture
def traced(monkeypatch):
    """Trace on a CPU what CUDA would compile; a part that cannot be traced as a whole fails."""
    monkeypatch.setattr(fastest, "can_try", lambda _: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    calls = []
    for chosen, part in ((START, compiled_blocks._start), (END, compiled_blocks._end)):
        fast = torch.compile(part, backend="eager", fullgraph=True)
        monkeypatch.setattr(chosen, "fast", lambda *x, fast=fast: (calls.append(1), fast(*x))[1])
    with START.use("fast"), END.use("fast"):
        yield calls
    torch._dynamo.reset()


@torch.no_grad()
def test_compiled_blocks_imagine_and_encode_the_same(traced):
    world, encoder = small_world(), small_encoder()
    clip = torch.randint(0, 256, (1, 4, 32, 32, 3), dtype=torch.uint8)
    wanted = imagined(world), encoder.encode_clip(clip)
    assert not traced
    for model in (world, encoder):
        assert compile_blocks(model) is model
    torch.testing.assert_close(imagined(world), wanted[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.encode_clip(clip), wanted[1], atol=1e-6, rtol=0)
    assert traced


def test_a_compiled_model_is_copied_sent_saved_and_trained(traced):
    world = small_world()
    names = set(world.state_dict())
    compile_blocks(world)
    assert set(world.state_dict()) == names
    for other in (copy.deepcopy(world), pickle.loads(pickle.dumps(world))):
        assert {type(block) for block in other.predictor.predictor_blocks} == {CompiledBlock}
    x = torch.randn(1, 6, WIDTH, requires_grad=True)
    out, _ = world.predictor.predictor_blocks[0](x, None)
    out.sum().backward()
    assert x.grad is not None
    assert not traced  # gradients take the plain parts


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.no_grad()
def test_compiled_blocks_on_cuda():
    torch.manual_seed(0)
    block = Block(1024, 16, 4096).cuda().bfloat16()
    x = torch.randn(32, 258, 1024, device="cuda", dtype=torch.bfloat16)
    rope = rope_tables(grid_positions(1, 1, 258).cuda(), 64, "tiled")
    wanted = block(x, rope)[0].float()
    compile_blocks(block)
    with START.use("fast"), END.use("fast"):
        found = block(x, rope)[0].float()
    assert (found - wanted).norm() < 1e-2 * wanted.norm()
    block(x, rope)  # measures both
    assert {START.fast is None, END.fast is None} == {False}
