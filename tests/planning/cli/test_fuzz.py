"""Numbers of every option of every command and mode: 0, -1, 1e30, nan, inf, nothing, a word."""

import copy
import math
import re
from collections import Counter, defaultdict
from typing import get_args, get_origin

import pytest

import envs.errors
import worldmodel.errors
from planning.cli import compose
from planning.cli.commands import COMMANDS, load_command
from planning.cli.fields import UsageError, layout, unwrap_optional
from planning.cli.request import plain, read_request, set_value
from planning.cli.values import check
from planning.errors import PlanError

REFUSALS = (UsageError, PlanError, worldmodel.errors.ConfigError, envs.errors.ConfigError)
VALUES = ("0", "-1", "1e30", "nan", "inf", "", "word")
NEEDED = {
    "anticipate train": ["annotations=a", "videos=v"],
    "anticipate": ["annotations=a", "videos=v", "probe=p"],
    "convert": ["source=s", "out=o"],
    "data prepare": [],
    "features": ["videos=v", "out=o"],
    "inspect energy": ["trajectory=t"],
    "plan": ["image=a", "goal=b"],
    "probe boxes": ["train=t", "val=v", "actions=a", "videos=v"],
    "probe dense": ["train=t", "val=v"],
    "probe dense-predict": ["head=h", "images=i"],
    "probe eval": ["probe=p", "val=v"],
    "probe predict": ["probe=p", "videos=v"],
    "probe train": ["train=t", "val=v"],
    "replay": ["run=r"],
    "segment": ["data=d"],
    "surprise": ["benchmark=grasp", "data=d"],
}
"""Words that a command cannot do without."""


def is_numeric(kind):
    inner, _ = unwrap_optional(kind)
    if get_origin(inner) in (list, tuple):
        return all(is_numeric(part) for part in get_args(inner) if part is not Ellipsis)
    return inner in (int, float)


def cases(name):
    for mode, kind in load_command(name).kinds.items():
        words = [*NEEDED.get(name, []), *([f"mode={mode}"] if mode else [])]
        for option in layout(kind).options.values():
            if is_numeric(option.kind):
                yield from ((words, option, value) for value in VALUES)


def numbers_in(value):
    parts = value if isinstance(value, list | tuple) else [value]
    return [part for part in parts if part is not None]


def leaf_of(options, name):
    for part in name.split("."):
        options = options[part] if isinstance(options, dict) else getattr(options, part)
    return options


def outcome(name, words, tree, option, text):
    """What parsing does: the refusal's text, and the value that the command would run with.

    `tree` holds the command's other options: Hydra takes a tenth of a second to compose them.
    """
    try:
        request = read_request(name, load_command(name).kinds, [*words, f"{option.name}={text}"])
        changed = copy.deepcopy(tree)
        set_value(changed, option.name, plain(request.values[option.name][0]))
        built = compose.build(request.kind, changed)
    except REFUSALS as error:
        return str(error), None
    return "", leaf_of(built, option.name)


def composed(name, words):
    """The options that Hydra composes from words, and those that the words gave."""
    request = read_request(name, load_command(name).kinds, words)
    given = {option: plain(values[0]) for option, values in request.values.items()}
    return compose.compose_tree(request), given


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_numbers_are_refused_and_the_rest_is_in_range(name):
    counts, trees, accepted = Counter(), {}, defaultdict(list)
    for words, option, text in cases(name):
        key = tuple(words)
        if key not in trees:
            trees[key] = composed(name, words)[0]
        said, value = outcome(name, words, trees[key], option, text)
        counts["refused" if said else "accepted"] += 1
        if said:
            assert option.leaf in said, f"{option.name}={text}: {said}"
            assert "\n" not in said
            continue
        accepted[(*words, text)].append(f"{option.name}={text}")
        assert text not in ("1e30", "nan", "inf", "word"), f"{option.name}={text} is {value}"
        if text == "":  # nothing means none, or an empty list, where the type has these
            assert value is None or value in ([], ()), option.name
        for number in numbers_in(value):
            assert math.isfinite(number)
            assert option.low <= number <= option.high, f"{option.name}={text}"
    for (*words, _), numbers in accepted.items():
        tree, given = composed(name, [*words, *numbers])
        assert {option: leaf_of(tree, option) for option in given} == given
    print(f"{name}: {dict(counts)}")


@pytest.mark.parametrize("name", COMMANDS)
def test_recipes_and_files_are_as_strict(name):
    """A YAML file refuses what the command line refuses."""
    for option in {id(o): o for _, o, _ in cases(name)}.values():
        for value in (1e30, math.nan, math.inf, "word", True, option.low - 1, option.high + 1):
            with pytest.raises(UsageError, match=re.escape(option.name)):
                check(option, value)
