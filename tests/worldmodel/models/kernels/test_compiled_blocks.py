"""Blocks with compiled parts compute what plain ones do."""

import copy
import pickle

import pytest
import torch

from tests.cuda_guard.models import TOKENS, WIDTH, small_encoder, small_world
from worldmodel.models import fastest
from worldmodel.models.kernels import compiled_blocks
from worldmodel.models.kernels.compiled_blocks import (
    END,
    START,
    CompiledBlock,
    TrainedBlock,
    compile_blocks,
)
from worldmodel.models.layers import Block
from worldmodel.models.rope import grid_positions, rope_tables
from worldmodel.training.network_options import BlockConfig
from worldmodel.training.objective import Objective, ObjectiveConfig
from worldmodel.training.tasks.post import prepare_blocks


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


def test_blocks_that_are_compiled_in_training_have_the_gradients_of_plain_ones(traced):
    """With activation checkpointing and autocast; all blocks share their graphs."""
    torch.manual_seed(0)
    batch = {
        "features": torch.randn(2, 4, TOKENS, WIDTH),
        "states": torch.randn(2, 4, 7),
        "actions": torch.randn(2, 3, 7),
    }

    def gradients(kind):
        dynamics = small_world(3, head=False).dynamics.requires_grad_(True)
        if kind is not None:
            compile_blocks(dynamics, kind)
        prepare_blocks(dynamics, BlockConfig(checkpoint_activations=True))
        objective = Objective(dynamics, ObjectiveConfig())
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(batch)["loss"]
        loss.backward()
        return [loss, *(p.grad for p in objective.parameters() if p.grad is not None)]

    wanted = gradients(None)
    assert not traced
    torch._dynamo.utils.counters.clear()
    found = gradients(TrainedBlock)
    assert len(traced) >= 2 * 3  # both parts of three blocks
    assert len(found) == len(wanted) > 20
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 6  # 2 parts x 3 shapes


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_blocks_train_on_cuda():
    torch.manual_seed(0)
    block = Block(1024, 16, 4096).cuda()
    x = torch.randn(32, 258, 1024, device="cuda", requires_grad=True)
    rope = rope_tables(grid_positions(1, 1, 258).cuda(), 64, "tiled")

    def gradients():
        with torch.autocast("cuda", torch.bfloat16):
            out = block(x, rope)[0]
        inputs = [x, block.mlp.fc1.weight, block.attn.qkv.weight]
        return torch.autograd.grad(out.float().square().mean(), inputs)

    wanted = gradients()
    compile_blocks(block, TrainedBlock)
    with START.use("fast"), END.use("fast"):
        found = gradients()
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() < 2e-2 * other.norm()
    gradients()  # measures both
