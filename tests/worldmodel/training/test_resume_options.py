"""Every option of training: another value on resuming changes nothing, or is refused by name."""

import dataclasses
import itertools
from collections import Counter
from typing import Literal, get_args, get_origin

import numpy as np
import pytest

from planning.cli.app import compose_options
from planning.cli.commands import load_command
from planning.cli.fields import UsageError, layout, unwrap_optional
from planning.errors import PlanError
from tests.planning.cli.test_fuzz import NEEDED
from worldmodel.errors import ConfigError
from worldmodel.perception.heads import fitting as head_fitting
from worldmodel.training.resume import FREE, FREE_GROUPS, check_resume, run_facts

TRAINING = [(name, mode) for name in ("train", "pretrain") for mode in load_command(name).kinds]
HEADS = ("probe train", "probe boxes", "anticipate train")
MEMORY = ["launcher=slurm", "rollout_kind=free", "head_weight=1"]
DENSE = ["launcher=slurm", "context_loss=0.5", "context_until=99"]
WORDS = {
    "joint": MEMORY,
    "finetune": MEMORY,
    "frozen": [*MEMORY, "augment=0", "hue_deg=0", "pattern=0"],
    "clips": DENSE,
    "shapes": DENSE,
    "macro": ["launcher=slurm", "num_frames=25"],
    "post": ["launcher=slurm"],
    "images": ["launcher=slurm"],
}
"""Mode -> words that make its other options have an effect."""
TIED = {"mode", "probe", "more_data", "more_shares", "cuda_graph"}
"""Options with one value in a mode, or that others must change with."""
WHOLE = ("mode=macro", "clips.num_frames")
"""Frames of whole macro-actions: no value that is tried fits the span."""


class Clips:
    def __len__(self):
        return 3

    def content_hash(self):
        return "x"

    def batch(self, indices):
        return {"states": np.zeros(len(indices))}


def others(kind, value):
    """Values of an option to try."""
    inner, _ = unwrap_optional(kind)
    if inner is bool:
        return [not value]
    if get_origin(inner) is Literal:
        return [x for x in get_args(inner) if x != value]
    if inner in (int, float):
        near = [] if value is None else [value + 1, value * 2, value / 2, value - 1]
        return [inner(x) for x in (*near, 1, 2, 4, 8, 16, 0, 0.5) if inner(x) != value]
    if get_origin(inner) in (list, tuple):
        near = [tuple(x / 2 for x in value)] if all(isinstance(x, float) for x in value) else []
        alike = [[x] * max(1, len(value)) for x in (1, 2, 4, 8, 0.5, "other")]
        found = [type(value)(x) for x in (*near, *alike, [0.25, 0.5], [8, 16, 32])]
        return [x for x in found if x != value]
    return ["other"]


def changed(option, base):
    """Return options in which only this one differs, or None."""
    for value in others(option.kind, value_of(base, option.name)):
        try:
            return replaced(base, option.name.split("."), value)
        except (ConfigError, PlanError, UsageError):
            continue
    return None


def replaced(options, names, value):
    first, *rest = names
    inner = replaced(getattr(options, first), rest, value) if rest else value
    return dataclasses.replace(options, **{first: inner})


def value_of(options, name):
    for part in name.split("."):
        options = getattr(options, part)
    return options


def flat(tree, prefix=""):
    parts = ((f"{prefix}{k}", v) for k, v in tree.items())
    pairs = (flat(v, f"{k}.").items() if isinstance(v, dict) else [(k, v)] for k, v in parts)
    return dict(itertools.chain.from_iterable(pairs))


def walk(command, words, kind):
    """Yield name and options for each option; fail for one that no value could be found for."""
    base, lost = compose_options(command, words), []
    for option in layout(kind).options.values():
        found = changed(option, base)
        if found is not None:
            yield option.name, base, found
        elif option.name.rpartition(".")[2] not in TIED and (words[0], option.name) != WHOLE:
            lost.append(option.name)
    assert not lost, lost


@pytest.mark.parametrize(("command", "mode"), TRAINING)
def test_each_option_of_training_is_compared_or_has_no_effect_on_the_weights(command, mode):
    kind = load_command(command).kinds[mode]
    counts = Counter()
    for name, base, found in walk(command, [f"mode={mode}", *WORDS[mode]], kind):
        is_free = name in FREE or name.startswith(FREE_GROUPS)
        before, asked = run_facts(base, Clips(), []), run_facts(found, Clips(), [])
        if is_free and not (name == "loop.accumulate" and "clips per statistic" in asked):
            assert check_resume(before, asked, found, step=1, where="a") == [], name
        else:
            with pytest.raises(ConfigError, match=r"resume=force") as refused:
                check_resume(before, asked, found, step=1, where="a")
            shown = "clips per statistic" if is_free else name
            assert f"{shown}: " in str(refused.value)
        counts[is_free] += 1
    assert min(counts.values()) > 5, counts


def test_no_option_that_is_free_is_gone():
    names = {
        name
        for command, mode in TRAINING
        for name in layout(load_command(command).kinds[mode]).options
    }
    kinds = [load_command(command).kinds[mode] for command, mode in TRAINING]
    known = {name for kind in kinds for name in flat(dataclasses.asdict(kind()))} | names
    assert [name for name in FREE if name not in known and name != "recipe"] == []


@pytest.mark.parametrize("command", HEADS)
def test_each_option_of_heads_is_compared_or_only_says_where_a_run_is(command):
    (kind,) = load_command(command).kinds.values()
    for name, base, found in walk(command, NEEDED[command], kind):
        facts = [
            head_fitting.run_facts(dataclasses.asdict(options), [], []) for options in (base, found)
        ]
        listed = head_fitting.differences(*facts)
        assert bool(listed) == (name not in head_fitting.FREE), name
        assert all(text.startswith(name.partition(".")[0]) for text in listed)
