"""Paths, extras, packages and commands of the Dockerfile exist; it is built where Docker is."""

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from planning.cli.app import main
from tests.e2e.test_wheel import FILES, PACKAGES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STEPS = [
    line.split(" ", 1)
    for line in re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    if line
]


def steps(name: str) -> list[str]:
    return [text for step, text in STEPS if step == name]


def copied() -> set[str]:
    return {source for text in steps("COPY") for source in shlex.split(text)[:-1]}


def test_it_copies_what_the_wheel_is_built_from():
    assert copied() == {*FILES, *PACKAGES, "configs", "constraints.txt"}
    assert all((ROOT / name).exists() for name in copied())


def test_the_context_holds_what_is_copied_and_nothing_else():
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert rules[1] == "*"
    assert kept == copied()
    assert any(fnmatch("worldmodel/__pycache__", rule) for rule in rules)


def test_its_arguments_name_a_supported_python_and_known_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    arguments = dict(text.split("=", 1) for text in steps("ARG"))
    assert f"Programming Language :: Python :: {arguments['PYTHON']}" in project["classifiers"]
    assert set(arguments["EXTRAS"].split(",")) <= set(project["optional-dependencies"])
    assert set(re.findall(r"\$\{(\w+)[:}]", TEXT)) == set(arguments)


def test_packages_are_those_of_the_installation_guide():
    guide = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    installed = re.search(r"install -y --no-install-recommends ([\w .-]+)", " ".join(steps("RUN")))
    (asked,) = set(re.findall(r"apt-get install -y ([\w .-]+)`", guide))
    assert set(asked.split()) <= set(installed[1].split())


def test_variables_are_those_that_the_packages_read():
    names = set(re.findall(r"\b([A-Z_]+)=", " ".join(steps("ENV"))))
    own = names - {"NVIDIA_DRIVER_CAPABILITIES", "PIP_NO_CACHE_DIR", "HF_HOME"}
    code = "".join(
        p.read_text(encoding="utf-8") for n in PACKAGES for p in (ROOT / n).rglob("*.py")
    )
    assert own == {"MUJOCO_GL", "WORLDMODEL_CACHE"}
    assert all(f'"{name}"' in code for name in own)


def commands() -> list[list[str]]:
    usage = "".join(line.lstrip("# ") for line in TEXT.splitlines(keepends=True) if line[:1] == "#")
    runs = re.findall(r"^docker run .*?worldmodel(?::\w+)? (.*)$", usage.replace("\\\n", " "), re.M)
    (default,) = steps("CMD")
    return [*(shlex.split(text) for text in runs), re.findall(r'"([^"]+)"', default)]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_are_accepted(words):
    assert main([*words, "--cfg", "job"]) == 0
