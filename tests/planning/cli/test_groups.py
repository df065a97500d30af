"""Every file of configs/ composes, and groups fill the sections that they belong to."""

import pytest

from planning.cli import compose
from planning.cli.commands import COMMANDS, load_command
from planning.cli.fields import UsageError, group_names, layout
from planning.cli.request import read_request
from planning.options import EvalOptions
from worldmodel.resources import config_folder

RECIPES = [(name, recipe) for name in COMMANDS for recipe in group_names(name.replace(" ", "_"))]


@pytest.mark.parametrize(("command", "recipe"), RECIPES)
def test_every_recipe_composes_and_words_come_after_it(command, recipe):
    kinds = load_command(command).kinds
    request = read_request(command, kinds, [f"recipe={recipe}", "seed=7"])
    options = compose.build(request.kind, compose.compose_tree(request))
    found = layout(request.kind)
    value = options
    for part in found.find("seed").name.split("."):
        value = getattr(value, part)
    assert value == 7


def test_recipes_exist_for_train_and_pretrain():
    assert {command for command, _ in RECIPES} == {"train", "pretrain"}


@pytest.mark.parametrize(("group", "section"), [("planner", "planner"), ("env", "scene")])
def test_every_group_file_composes(group, section):
    assert group_names(group)
    for name in group_names(group):
        found = compose.parse_options("eval", EvalOptions, [f"{group}={name}"])
        assert getattr(found, section) != getattr(EvalOptions(), section)


def test_words_come_after_the_group_whatever_their_order():
    found = compose.parse_options("eval", EvalOptions, ["samples=900", "planner=published"])
    assert (found.planner.samples, found.planner.iterations) == (900, 10)


def test_unknown_group_file_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"planner=fats is unknown\. Did you mean .fast."):
        compose.parse_options("eval", EvalOptions, ["planner=fats"])


def test_a_path_is_a_group_file_too(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("samples: 3\nelites: 2\n")
    found = compose.parse_options("eval", EvalOptions, [f"planner={file}"])
    assert (found.planner.samples, found.planner.elites) == (3, 2)
    file.write_text("task: push\n")
    with pytest.raises(UsageError, match=r"Unknown option 'planner\.task'"):
        compose.parse_options("eval", EvalOptions, [f"planner={file}"])


def test_sweep_over_a_group():
    request = read_request("eval", {"": EvalOptions}, ["planner=fast,published"], sweep=True)
    assert request.overrides == ["planner='fast','published'"]


def test_group_folders_are_those_of_the_design():
    found = {path.name for path in config_folder().iterdir() if path.is_dir()}
    assert {"train", "pretrain", "planner", "env", "robot"} <= found
