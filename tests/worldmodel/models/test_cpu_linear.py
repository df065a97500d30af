"""Products of a CPU: the same numbers as torch's own, whatever library takes them."""

import pytest
import torch
from torch.nn import functional as F

from worldmodel.models.encoder import PatchEmbed
from worldmodel.models.kernels import cpu_attention, cpu_linear, optimize_for_cpu
from worldmodel.models.kernels.cpu_attention import attend_in_blocks
from worldmodel.models.kernels.cpu_linear import linear, linear_gelu
from worldmodel.models.kernels.cpu_rope import can_turn_pairs, rotate_pair_in_dtype, turn_pairs
from worldmodel.models.kernels.optimize import CpuLinear, CpuPatchEmbed
from worldmodel.models.rope import grid_positions, rope_tables, rotate_pair


@pytest.fixture(params=[True, False], ids=["onednn", "mkl"])
def library(request, monkeypatch):
    """Both ways on any processor, where torch was built with oneDNN."""
    if request.param and cpu_linear._pointwise() is None:
        pytest.skip("torch without oneDNN")
    monkeypatch.setattr(cpu_linear, "prefers_onednn", lambda: request.param)


@pytest.mark.parametrize("shape", [(3, 17, 48), (1, 48), (300, 48), (2, 4, 5, 48)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_torch(library, shape, bias):
    torch.manual_seed(0)
    x, weight = torch.randn(shape), torch.randn(96, 48) / 7
    offset = torch.randn(96) if bias else None
    want = F.linear(x, weight, offset)
    torch.testing.assert_close(linear(x, weight, offset), want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(linear_gelu(x, weight, offset), F.gelu(want), atol=1e-5, rtol=1e-5)


def test_strided_weights_and_gradients(library):
    torch.manual_seed(0)
    layer, x = CpuLinear(32, 16), torch.randn(64, 32)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    strided = torch.randn(32, 16).t()
    torch.testing.assert_close(linear(x, strided), F.linear(x, strided))


def test_autocast_keeps_bfloat16(library):
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert CpuLinear(32, 16)(torch.randn(64, 32)).dtype == torch.bfloat16


def relative(found, want):
    return float((found.float() - want.float()).norm() / want.float().norm())


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 300])
def test_bfloat16_products(rows):
    torch.manual_seed(0)
    layer, x = CpuLinear(48, 96), torch.randn(2, rows, 48)
    want, half = layer(x), CpuLinear(48, 96).bfloat16()
    half.load_state_dict(layer.state_dict())
    found = half(x.bfloat16())
    assert relative(found, want) < 5e-3
    assert relative(F.linear(x.bfloat16(), half.weight, half.bias), found) < 3e-3
    found = linear_gelu(x.bfloat16(), half.weight, half.bias)
    assert relative(found, F.gelu(want)) < 5e-3
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(linear_gelu(x.bfloat16(), half.weight, half.bias), found)
        assert linear_gelu(x, layer.weight, layer.bias).dtype == torch.bfloat16


@pytest.mark.parametrize("time", [1, 2])
def test_patches_by_a_product_equal_the_convolution(time):
    torch.manual_seed(0)
    patches, clip = PatchEmbed(24, 4, time), torch.randn(2, 3, 4, 8, 12)
    want = patches(clip)
    with torch.no_grad():
        optimize_for_cpu(patches)
        assert isinstance(patches, CpuPatchEmbed)
        torch.testing.assert_close(patches(clip), want, atol=1e-5, rtol=1e-5)
        assert relative(patches.bfloat16()(clip.bfloat16()), want) < 1e-2


def test_patches_under_autocast_have_the_convolutions_gradients():
    torch.manual_seed(0)
    patches, clip = PatchEmbed(24, 4, 2), torch.randn(2, 3, 4, 8, 12)
    patches(clip).square().mean().backward()
    want = patches.proj.weight.grad.clone()
    patches.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        found = patches(clip)
    found.float().square().mean().backward()
    assert found.dtype == torch.bfloat16
    assert relative(patches.proj.weight.grad, want) < 1e-2


@pytest.mark.parametrize("layout", ["tiled", "interleaved"])
def test_rotation_without_gradients(layout):
    torch.manual_seed(0)
    qkv = torch.randn(2, 24, 3, 2, 16)
    cos, sin = rope_tables(grid_positions(2, 3, 4), 16, layout)
    for tables in ((cos, sin), (cos.expand(2, 1, -1, -1), sin.expand(2, 1, -1, -1))):
        want = rotate_pair(qkv[:, :, :2], tables)
        with torch.no_grad():
            for exact, found, half in zip(
                want,
                rotate_pair_in_dtype(qkv[:, :, :2], tables),
                rotate_pair_in_dtype(qkv.bfloat16()[:, :, :2], tables),
                strict=True,
            ):
                torch.testing.assert_close(found, exact)
                assert half.dtype == torch.bfloat16
                assert relative(half, exact) < 5e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_of_pairs_with_gradients(dtype):
    torch.manual_seed(0)
    cos, sin = rope_tables(grid_positions(2, 3, 4), 16, "interleaved")
    assert not can_turn_pairs(torch.zeros(1), rope_tables(grid_positions(2, 3, 4), 16, "tiled"))
    for tables in ((cos, sin), (cos.expand(2, 1, -1, -1), sin.expand(2, 1, -1, -1))):
        qkv = torch.randn(2, 24, 3, 2, 16).to(dtype).requires_grad_()
        assert can_turn_pairs(qkv, tables)
        results = []
        for rotation in (rotate_pair, turn_pairs):
            q, k = rotation(qkv[:, :, :2], tables)
            assert q.dtype == dtype
            (grad,) = torch.autograd.grad((q * k.roll(1, 2)).sum(), qkv)
            results += [(q, k, grad)]
        for want, found in zip(*results, strict=True):
            assert relative(found, want) < (1e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("scores", [cpu_attention.SCORES, 40_000, 500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_in_blocks_of_strided_heads(library, dtype, scores, monkeypatch):
    monkeypatch.setattr(cpu_attention, "SCORES", scores)
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 300, 3 * 4 * 16).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
    want = F.scaled_dot_product_attention(q, k, v)
    got = attend_in_blocks(q.to(dtype), k.to(dtype), v.to(dtype)).float()
    torch.testing.assert_close(
        got,
        want,
        **(
            {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 3e-2, "rtol": 3e-2}
        ),
    )


@pytest.mark.parametrize("size", [0.1, 1, 30, 3000])
def test_attention_in_bfloat16_for_small_and_large_scores(size, monkeypatch):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 90, 32).bfloat16().unbind(0)
    q, k = q * size, torch.cat([k[:, :2], k[:, 2:] * size], dim=1)
    want = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    found = attend_in_blocks(q, k, v)
    assert found.isfinite().all()
    monkeypatch.setattr(cpu_attention, "REACH", -1.0)
    exact = attend_in_blocks(q, k, v)
    # large scores are coarse in bfloat16, whoever makes weights of them
    assert relative(found, want) < max(1e-2, 1.1 * relative(exact, want))
