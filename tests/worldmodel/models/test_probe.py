import pytest
import torch
from torch.nn import functional as F

from worldmodel.errors import ConfigError, ShapeError
from worldmodel.models.config import ProbeConfig
from worldmodel.models.probe import AttentiveClassifier


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AttentiveClassifier(ProbeConfig(embed_dim=32, num_heads=4, depth=3, num_classes=5))


def test_tokens_in_any_number_and_order(model):
    tokens = torch.randn(2, 9, 32)
    logits = model(tokens)
    assert logits.shape == (2, 5)
    torch.testing.assert_close(model(tokens.flip(1)), logits, atol=1e-5, rtol=0)


def test_it_learns_which_token_matters(model):
    torch.manual_seed(0)
    marks = torch.randn(5, 32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(60):
        labels = torch.randint(5, (32,))
        tokens = 0.3 * torch.randn(32, 6, 32)
        tokens[torch.arange(32), torch.randint(6, (32,))] += marks[labels]
        loss = F.cross_entropy(model(tokens), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.2


def test_what_does_not_fit(model):
    with pytest.raises(ShapeError, match="32"):
        model(torch.randn(2, 9, 16))
    with pytest.raises(ConfigError, match="num_heads"):
        ProbeConfig(embed_dim=32, num_heads=5)
