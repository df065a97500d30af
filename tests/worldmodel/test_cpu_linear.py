"""The float32 linear layer of a CPU: the same numbers as torch's, whatever library takes it."""

import pytest
import torch
from torch.nn import functional as F

from worldmodel.models import cpu_linear
from worldmodel.models.cpu_attention import attend_by_rows
from worldmodel.models.cpu_linear import Linear, linear, linear_gelu


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
    layer, x = Linear(32, 16), torch.randn(64, 32)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    strided = torch.randn(32, 16).t()
    torch.testing.assert_close(linear(x, strided), F.linear(x, strided))


def test_autocast_keeps_bfloat16(library):
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert Linear(32, 16)(torch.randn(64, 32)).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_by_rows_of_strided_heads(library, dtype):
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 300, 3 * 4 * 16).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
    want = F.scaled_dot_product_attention(q, k, v)
    got = attend_by_rows(q.to(dtype), k.to(dtype), v.to(dtype)).float()
    torch.testing.assert_close(
        got,
        want,
        **(
            {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 3e-2, "rtol": 3e-2}
        ),
    )
