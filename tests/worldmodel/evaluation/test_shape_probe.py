import pytest
import torch

from worldmodel.data.shape_options import LABELS
from worldmodel.evaluation.shape_probe import (
    SCALINGS,
    ProbeFit,
    ShapeProbe,
    fit_shape_probe,
    principal_components,
    scaled,
    score,
)


def truth_of(count, generator):
    labels = {n: torch.randint(len(c), (count,), generator=generator) for n, c in LABELS.items()}
    return labels | {"position": torch.rand(count, 2, generator=generator)}


def test_a_probe_reads_what_the_tokens_hold_and_repeats():
    generator = torch.Generator().manual_seed(0)
    labels = truth_of(600, generator)
    tokens = 0.1 * torch.randn(600, 3, 24, generator=generator)
    places = torch.cat([torch.eye(len(c))[labels[n]] for n, c in LABELS.items()], 1)
    tokens[:, 1, :18] += places
    tokens[:, 2, 18:20] += labels["position"]
    fit = ProbeFit(batch_size=16, steps=250)
    found = fit_shape_probe(tokens[:500], {k: v[:500] for k, v in labels.items()}, 2, fit)
    with torch.no_grad():
        row = score(found.probe(tokens[500:]), {k: v[500:] for k, v in labels.items()}, 40)
    assert row["direction"] > 0.5  # chance: 0.125
    assert row["position_px"] < 12  # chance: 15
    short = ProbeFit(batch_size=16, steps=50)
    ended = fit_shape_probe(tokens[:500], {k: v[:500] for k, v in labels.items()}, 2, short)
    again = fit_shape_probe(tokens[:500], {k: v[:500] for k, v in labels.items()}, 2, short)
    assert found.held_out_right > ended.held_out_right
    for one, two in zip(ended.probe.parameters(), again.probe.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("by", SCALINGS)
def test_all_features_are_scaled_alike(by):
    torch.manual_seed(0)
    train, unseen = 7 + 3 * torch.randn(200, 12, 24), 7 + 3 * torch.randn(50, 12, 24)
    one, other = scaled(train, unseen, (3, 2, 2), by)
    again, _ = scaled(100 * train - 5, unseen, (3, 2, 2), by)
    torch.testing.assert_close(one, again, rtol=1e-3, atol=1e-3)
    assert one.std() == pytest.approx(1, abs=0.3)
    assert other.shape == unseen.shape


def test_channels_that_hardly_vary_stay_small_when_tokens_are_scaled():
    torch.manual_seed(0)
    train = torch.randn(200, 12, 24) * torch.cat([torch.ones(12), torch.full((12,), 0.01)])
    ratio = {}
    for by in SCALINGS:
        spread = scaled(train, train[:1], (3, 2, 2), by)[0].std(0)
        ratio[by] = float(spread[:, 12:].mean() / spread[:, :12].mean())
    assert ratio["tokens"] < 0.3
    assert ratio["channels"] == pytest.approx(1, abs=0.1)


def test_principal_components_keep_the_most_variance():
    scales = torch.tensor([5.0, 3.0, 0.1, 0.1])
    train, unseen = torch.randn(300, 2, 4) * scales, torch.randn(20, 2, 4) * scales
    kept, other = principal_components(train, unseen, 2)
    assert kept.var((0, 1)).sum() > 0.99 * train.var((0, 1)).sum()
    assert other.shape == (20, 2, 2)


def test_score_of_the_truth_is_perfect():
    truth = truth_of(16, torch.Generator().manual_seed(1))
    logits = {n: torch.eye(len(c))[truth[n]] for n, c in LABELS.items()}
    found = score({**logits, "position": truth["position"]}, truth, 40)
    assert found == {"shape": 1.0, "direction": 1.0, "speed": 1.0, "position_px": 0.0}
    probe = ShapeProbe(24, 2)
    probe.loss(torch.randn(16, 5, 24), truth).backward()
    assert all(p.grad is not None for p in probe.parameters())
