"""A grid of heads against separate runs: pooling, optimiser, clipping, decay, 16 bits."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from worldmodel.models.config import ProbeConfig
from worldmodel.models.probe import AttentiveClassifier, AttentivePooler
from worldmodel.perception.heads.grid import HeadSettings, cosine_to_zero, grid
from worldmodel.perception.heads.shared_pooling import can_share, pool_shared
from worldmodel.perception.probes.classifiers import ProbeGrid, probabilities

DEPTH_1 = ProbeConfig(embed_dim=24, num_heads=3, depth=1, num_classes=3)
DEPTH_2 = dataclasses.replace(DEPTH_1, depth=2)
TWENTY = grid((5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (0.8, 0.4, 0.1, 0.01))
VJEPA1 = HeadSettings(
    lr=3e-3, weight_decay=0.5, final_decay=1e-6, decay_all=False, clip_norm=0.05, warmup_steps=3
)


def batches(steps):
    generator = torch.Generator().manual_seed(0)
    marks = torch.randn(3, 24, generator=generator)
    for _ in range(steps):
        labels = torch.randint(3, (16,), generator=generator)
        noise = torch.randn(1, 16, 5, 24, generator=generator)
        yield 0.5 * noise + marks[labels][:, None], labels


def reference(config, settings, steps):
    """One head trained by torch's own AdamW and clipping, written out plainly."""
    torch.manual_seed(0)
    head, s = AttentiveClassifier(config), settings
    flat = [p for p in head.parameters() if p.squeeze().ndim <= 1 and not s.decay_all]
    rest = [p for p in head.parameters() if not any(p is one for one in flat)]
    groups = [{"params": group} for group in (rest, flat) if group]
    optimizer = torch.optim.AdamW(groups, lr=s.lr, fused=True)
    for step, (tokens, labels) in enumerate(batches(steps), start=1):
        for group in optimizer.param_groups:
            group["lr"] = s.lr * cosine_to_zero(step, steps, s.warmup_steps)
            group["weight_decay"] = s.decay_at(step, steps)
        if flat:
            optimizer.param_groups[-1]["weight_decay"] = 0.0
        optimizer.zero_grad()
        F.cross_entropy(head(tokens[0]), labels).backward()
        if s.clip_norm:
            torch.nn.utils.clip_grad_norm_(head.parameters(), s.clip_norm)
        optimizer.step()
    return head


def trained(config, settings, steps, **options):
    heads = ProbeGrid(config, settings, steps, **options)
    for tokens, labels in batches(steps):
        losses = heads.update(tokens, labels)
    return heads, losses


@pytest.mark.parametrize("queries", [1, 3])
def test_shared_pooling_equals_each_pooler(queries):
    torch.manual_seed(0)
    config = dataclasses.replace(DEPTH_1, num_queries=queries, norm_eps=1e-3)
    poolers = [AttentivePooler(config).double() for _ in range(3)]
    for weight in (w for pooler in poolers for w in pooler.parameters()):
        torch.nn.init.normal_(weight, std=0.5)
    tokens = 3 + torch.randn(4, 7, 24, dtype=torch.float64)
    marks = torch.randn(4, queries, 24, dtype=torch.float64)
    for pooler, found in zip(poolers, pool_shared(poolers, tokens), strict=True):
        torch.testing.assert_close(found, pooler(tokens))
        ours, plain = (
            torch.autograd.grad((out * marks).sum(), list(pooler.parameters()), retain_graph=True)
            for out in (found, pooler(tokens))
        )
        torch.testing.assert_close(ours, plain)
    assert not can_share([AttentivePooler(dataclasses.replace(DEPTH_1, complete_block=False))])
    assert not can_share([AttentivePooler(DEPTH_2)])


@pytest.mark.parametrize("settings", [TWENTY[0], TWENTY[-1], VJEPA1])
def test_a_head_of_the_grid_equals_a_run_of_torchs_own_optimiser(settings):
    alone = reference(DEPTH_2, settings, 12)
    heads, _ = trained(DEPTH_2, (*TWENTY, settings), 12)
    for name, weight in heads.heads[-1].named_parameters():
        assert torch.equal(weight, alone.get_parameter(name)), name


def test_twenty_shared_heads_equal_separate_runs():
    heads, losses = trained(DEPTH_1, TWENTY, 12)
    assert heads.poolers
    assert losses.isfinite().all()
    for number in (0, 7, 19):
        alone = reference(DEPTH_1, TWENTY[number], 12)
        for name, weight in heads.heads[number].named_parameters():
            torch.testing.assert_close(
                weight, alone.get_parameter(name), atol=2e-4, rtol=1e-3, msg=lambda m, n=name: n + m
            )


@pytest.mark.parametrize("config", [DEPTH_1, DEPTH_2])
@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_products_of_16_bits_learn_and_resume(config, low):
    _, plain = trained(config, TWENTY[4:8], 30)
    heads, losses = trained(config, TWENTY[4:8], 30, low=low)
    torch.testing.assert_close(losses, plain, atol=0.1, rtol=0.2)
    resumed = ProbeGrid(config, TWENTY[4:8], 30, seed=9, low=low)
    resumed.load_training_state(heads.training_state())
    tokens, _ = next(batches(1))
    assert torch.equal(probabilities(resumed, tokens), probabilities(heads, tokens))


def test_an_overflow_costs_one_head_one_update():
    heads = ProbeGrid(DEPTH_2, TWENTY[:2], 10, low=torch.float16)
    heads.scales[1] = 1e30
    before = [head.linear.weight.clone() for head in heads.heads]
    heads.update(*next(batches(1)))
    assert heads.scales == [65536.0, 5e29]
    assert not torch.equal(heads.heads[0].linear.weight, before[0])
    assert torch.equal(heads.heads[1].linear.weight, before[1])


def test_parts_of_a_batch_add_up_to_the_batch():
    """A process without items takes part, and two halves give the update of the whole."""
    tokens, labels = next(batches(1))
    whole = ProbeGrid(DEPTH_2, TWENTY[:2], 10)
    whole.update(tokens, labels)
    halves = [ProbeGrid(DEPTH_2, TWENTY[:2], 10) for _ in range(3)]
    parts = (slice(0, 5), slice(5, 16), slice(0, 0))
    for heads, part in zip(halves, parts, strict=True):
        for p in heads.parameters():
            p.grad = torch.zeros_like(p)
        losses = torch.zeros(2)
        heads.autocast(tokens.device)
        if len(labels[part]):
            heads._backward(tokens[0, part], labels[part], 16, losses)
    for parameters in zip(*(h.parameters() for h in (whole, *halves)), strict=True):
        summed = sum(p.grad for p in parameters[1:])
        torch.testing.assert_close(summed, parameters[0].grad, atol=1e-6, rtol=1e-4)
    empty = ProbeGrid(DEPTH_2, TWENTY[:2], 10)
    assert empty.update(tokens[:, :0], labels[:0], 16).tolist() == [0, 0]
