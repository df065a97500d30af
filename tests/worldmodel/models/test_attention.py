"""One attention, three backends."""

import pytest
import torch

from worldmodel.errors import ConfigError
from worldmodel.models.ac_predictor import ActionConditionedPredictor
from worldmodel.models.attention import Attention, attend, set_backend
from worldmodel.models.config import EncoderConfig, PredictorConfig
from worldmodel.models.encoder import VisionTransformer
from worldmodel.models.kernels import optimize_for_cpu


def heads(length=70, width=24):
    torch.manual_seed(0)
    return torch.randn(3, 2, 4, length, width).unbind(0)


def relative(found, want):
    return float((found.float() - want).detach().norm() / want.detach().norm())


@pytest.mark.parametrize("length", [5, 70])
def test_sdpa_equals_plain(length):
    q, k, v = heads(length)
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    for m in (None, mask):
        want = attend(q, k, v, m, "plain")
        torch.testing.assert_close(attend(q, k, v, m, "sdpa"), want, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(attend(q, k, v, m), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [5, 65, 300])
def test_bfloat16_on_a_cpu(length):
    exact = [x.requires_grad_() for x in heads(length, 64)]
    want = attend(*exact, None, "plain")
    want.square().sum().backward()
    layer = optimize_for_cpu(Attention(4 * 64, 4))
    half = [x.detach().bfloat16().requires_grad_() for x in exact]
    with torch.no_grad():
        assert relative(layer.attend(half[0], (half[1], half[2])), want) < 1e-2
    found = layer.attend(half[0], (half[1], half[2]))
    found.float().square().sum().backward()
    assert relative(found, want) < 1e-2
    for x, y in zip(half, exact, strict=True):
        assert relative(x.grad, y.grad) < 2e-2


@pytest.mark.parametrize("backend", ["flash", "xformers"])
def test_a_backend_that_cannot_run_says_what_can(backend):
    with pytest.raises(ConfigError, match="sdpa"):
        attend(*heads(), None, backend)
    with pytest.raises(ConfigError, match="sdpa"):
        set_backend(VisionTransformer(EncoderConfig(embed_dim=24, depth=1, num_heads=2)), "eager")


@torch.no_grad()
def test_a_whole_model_on_each_backend():
    model = VisionTransformer(EncoderConfig(embed_dim=48, depth=2, num_heads=2)).eval()
    clip = torch.randn(1, 3, 4, 64, 80)
    want = set_backend(model, "plain")(clip)
    torch.testing.assert_close(set_backend(model, "sdpa")(clip), want, atol=2e-5, rtol=0)


@pytest.mark.gpu
@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flash_equals_sdpa_and_plain(dtype):
    pytest.importorskip("flash_attn")
    q, k, v = (x.cuda().to(dtype) for x in heads(256, 64))
    want = attend(q, k, v, None, "plain").float()
    scale = want.abs().max()
    for backend in ("sdpa", "flash"):
        error = (attend(q, k, v, None, backend).float() - want).norm() / want.norm()
        assert error < 2e-3 * (4 if dtype == torch.bfloat16 else 1), (backend, error, scale)


@pytest.mark.gpu
@torch.no_grad()
def test_backends_agree_on_cuda_in_float32_and_the_cached_step_holds():
    model = VisionTransformer(EncoderConfig(embed_dim=128, depth=2, num_heads=2)).eval().cuda()
    clip = torch.randn(1, 3, 4, 128, 128, device="cuda")
    want = set_backend(model, "plain")(clip)
    torch.testing.assert_close(set_backend(model, "sdpa")(clip), want, atol=2e-3, rtol=2e-3)
    predictor = (
        ActionConditionedPredictor(
            PredictorConfig(grid=(4, 4), encoder_dim=64, embed_dim=128, depth=2, num_heads=2)
        )
        .eval()
        .cuda()
    )
    frames = torch.randn(1, 2, 16, 64, device="cuda")
    numbers = torch.randn(1, 2, 7, device="cuda")
    whole = predictor(frames.flatten(1, 2), numbers, numbers)
    _, cache = predictor.step(frames[:, 0], numbers[:, 0], numbers[:, 0])
    last, _ = predictor.step(frames[:, 1], numbers[:, 1], numbers[:, 1], cache)
    torch.testing.assert_close(last, whole[:, 16:], atol=2e-3, rtol=2e-3)
