"""Files of settings: odd ones are refused in one line and in bounded time."""

import os

import pytest

from planning.apps.workcell import read_limits
from planning.cli.app import compose_options
from planning.cli.fields import UsageError
from planning.errors import PlanError
from planning.yaml_file import MAX_BYTES, read_yaml, values_of
from robot.errors import ConfigError


def bomb(width=9, levels=9):
    lines = [f"a0: &a0 [{','.join('x' * width)}]"]
    for i in range(1, levels):
        lines.append(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * width)}]")
    return "\n".join(lines)


ODD = {
    "aliases that grow": bomb(),
    "a list in itself": "a: &a [*a]",
    "a group in itself": "run: &r\n  out: *r",
    "lists that are too deep": "a: " + "[" * 3000 + "]" * 3000,
    "groups that are too deep": "a: " + "{a: " * 40 + "1" + "}" * 40,
    "a number": "3",
    "a text": "hello",
    "a list": "- 1",
    "nothing": "",
    "null": "null",
    "two documents": "a: 1\n---\nb: 2",
    "a key that is a list": "? [a]\n: 1",
    "a tag that calls": "a: !!python/object/apply:os.system [true]",
    "a key twice": "a: {b: 1, b: 2}",
    "an integer without end": "a: " + "9" * 5000,
    "a tab": "\ta: 1",
    "an open list": "a: [",
    "too many bytes": "a: " + "x" * MAX_BYTES,
}


@pytest.mark.parametrize("what", ODD)
def test_odd_files_are_refused_by_all_readers(what, tmp_path):
    file = tmp_path / "odd.yaml"
    file.write_text(ODD[what])
    with pytest.raises(PlanError):
        read_yaml(file)
    with pytest.raises(
        UsageError, match=r"odd\.yaml cannot be read as a file of options: "
    ) as error:
        compose_options("train", [f"recipe={file}"])
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"odd\.yaml"):
        read_limits(str(file))


def test_pipes_folders_and_missing_files_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe", "folder", "missing"):
        with pytest.raises(UsageError, match=name):
            compose_options("train", [f"recipe={tmp_path / name}.yaml"])
        with pytest.raises(ConfigError, match=name):
            read_limits(f"{tmp_path / name}.yaml")


def test_values_and_their_texts(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("\ufeffa: 1_000\nb: [010, 'x', null]\nc: &c {d: yes}\ne: {<<: *c}\n", "utf-8")
    tree = read_yaml(file)
    assert values_of(tree) == {"a": 1000, "b": [8, "x", None], "c": {"d": True}, "e": {"d": True}}
    assert str(tree["a"]) == "1_000"
    assert [str(part) for part in tree["b"]] == ["010", "x", "null"]


@pytest.mark.parametrize(("text", "steps"), [("010", 10), ("1_000", 1000), ("+3", 3)])
def test_numbers_of_a_file_are_those_of_the_command_line(text, steps, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(f"loop: {{steps: {text}}}")
    assert compose_options("train", [f"recipe={file}"]).loop.steps == steps
    assert compose_options("train", [f"steps={text}"]).loop.steps == steps


@pytest.mark.parametrize("text", ["1:30", "0x10", "'3'", "1e1", "3.0", "2024-01-01", "yes", "~"])
def test_what_is_no_whole_number_is_refused_in_files(text, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(f"loop: {{steps: {text}}}")
    with pytest.raises(UsageError, match=r"In recipe .*loop\.steps=.*whole numbers"):
        compose_options("train", [f"recipe={file}"])


def test_an_option_is_given_once_in_a_file(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("loop.steps: 1\nloop: {steps: 2}\n")
    with pytest.raises(UsageError, match=r"loop\.steps is given twice"):
        compose_options("train", [f"recipe={file}"])
