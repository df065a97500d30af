"""The words of the benchmarks' command lines: defaults, lists of names, and what is refused."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("option_words")
    sys.modules.pop("option_words", None)


def test_words_replace_defaults_and_keep_further_equals_signs(script):
    defaults = {"only": "", "extra": "", "episodes": "25"}
    found = script.read_words(["extra=steps=5 size=2", "only=", "only=page"], defaults)
    assert found == {"only": "page", "extra": "steps=5 size=2", "episodes": "25"}
    assert defaults["only"] == ""


@pytest.mark.parametrize("word", ["episode=3", "episode", "=3", "", "--help"])
def test_an_unknown_option_is_refused_with_the_known_ones(script, word):
    with pytest.raises(SystemExit, match=r"unknown option .*; known: data, episodes, only"):
        script.read_words([word], {"episodes": "25", "only": ""}, required=["data"])


def test_a_word_without_a_value_is_refused(script):
    with pytest.raises(SystemExit, match="write episodes=VALUE"):
        script.read_words(["episodes"], {"episodes": "25"})


@pytest.mark.parametrize("words", [[], ["rlds=a"], ["rlds=a", "lerobot="]])
def test_a_missing_required_option_is_refused(script, words):
    with pytest.raises(SystemExit, match="missing lerobot=VALUE"):
        script.read_words(words, {"out": ""}, required=("lerobot", "rlds"))
    given = ["rlds=a", "lerobot=b"]
    found = script.read_words(given, {"out": ""}, required=("lerobot", "rlds"))
    assert list(found.items()) == [("lerobot", "b"), ("rlds", "a"), ("out", "")]


@pytest.mark.parametrize(
    ("value", "names"),
    [("", []), ("all", ["push", "reach", "lift"]), ("lift,push", ["lift", "push"])],
)
def test_a_list_keeps_its_order(script, value, names):
    assert script.read_names({"tasks": value}, "tasks", ("push", "reach", "lift")) == names


@pytest.mark.parametrize("value", ["lift,pull", "all,pull", "pull"])
def test_an_unknown_name_is_refused_with_the_known_ones(script, value):
    with pytest.raises(SystemExit, match=r"unknown tasks \[.*'pull'\]; known: all, push, lift"):
        script.read_names({"tasks": value}, "tasks", ("push", "lift"))
