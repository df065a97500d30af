import pytest
import torch

from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.config import MaskedPredictorConfig
from worldmodel.models.masked_predictor import MaskedPredictor


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = MaskedPredictor(
        MaskedPredictorConfig(
            grid=(2, 3, 4),
            encoder_dim=16,
            out_dim=16,
            embed_dim=24,
            depth=2,
            num_heads=2,
            num_mask_tokens=2,
        )
    ).eval()
    for token in model.mask_tokens:
        torch.nn.init.normal_(token)
    return model


@torch.no_grad()
def test_the_order_of_tokens_does_not_matter(model):
    context, ids = torch.randn(2, 10, 16), torch.stack([torch.randperm(24) for _ in range(2)])
    seen, hidden = ids[:, :10], ids[:, 10:]
    want = model(context, seen, hidden)
    back = torch.arange(9, -1, -1)
    found = model(context[:, back], seen[:, back], hidden.flip(1)).flip(1)
    torch.testing.assert_close(found, want, atol=2e-6, rtol=0)


@torch.no_grad()
def test_mask_tokens_differ_and_gradients_reach_them(model):
    context, seen, hidden = torch.randn(1, 4, 16), torch.arange(4)[None], torch.arange(4, 9)[None]
    assert not torch.equal(model(context, seen, hidden, 0), model(context, seen, hidden, 1))
    with torch.enable_grad():
        model(context, seen, hidden, 1).sum().backward()
    assert model.mask_tokens[1].grad.abs().sum() > 0
    assert model.mask_tokens[0].grad is None


@torch.no_grad()
def test_a_wider_clip_counts_ids_in_its_own_grid(model):
    context = torch.randn(1, 2, 16)
    wide = model(context, torch.tensor([[0, 6]]), torch.tensor([[7]]), grid=(2, 3, 6))
    own = model(context, torch.tensor([[0, 4]]), torch.tensor([[5]]))  # the same row, column
    torch.testing.assert_close(wide, own)


def test_what_does_not_fit_together(model):
    context, seen, hidden = torch.randn(1, 4, 16), torch.arange(4)[None], torch.arange(4, 9)[None]
    with pytest.raises(ConfigError, match=r"mask_token=2.*0 to 1"):
        model(context, seen, hidden, 2)
    with pytest.raises(ShapeError, match=r"\[B, K, 16\]"):
        model(context, seen[:, :3], hidden)
    with pytest.raises(ShapeError, match="target ids"):
        model(context, seen, hidden[0])
    with pytest.raises(ConfigError, match="not divisible"):
        MaskedPredictorConfig(embed_dim=10, num_heads=3)
