"""The pages on robustness name code and tests of every kind of fault, and they exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OVERVIEW = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
PAGES = [page.read_text("utf-8") for page in sorted((ROOT / "docs").glob("robustness-*.md"))]
TEXT = "\n".join([OVERVIEW, *PAGES])
SECTION = re.compile(r"\n## ([A-Z])\. [^\n]+\n(.*?)(?=\n## |\Z)", re.DOTALL)
SECTIONS = dict(pair for page in PAGES for pair in SECTION.findall(page))
PACKAGES = ("worldmodel", "planning", "robot", "envs")
FILE = re.compile(rf"`((?:{'|'.join((*PACKAGES, 'tests', 'benchmarks'))})/[\w./-]*)`")
NAME = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`")
BARE = re.compile(r"`([\w/]+\.py)[`:]")


def test_every_kind_is_there():
    assert "".join(sorted(SECTIONS)) == "ABCDEFGHIJKLMNOPQRST"
    assert re.findall(r"^\| ([A-Z]) \| \[", OVERVIEW, re.MULTILINE) == sorted(SECTIONS)


@pytest.mark.parametrize("kind", SECTIONS)
def test_code_and_tests_of_a_kind_exist(kind):
    named = re.match(r"\nCode:\s(.*?)`\.\s+Tests:\s(.*?)`\.\n", SECTIONS[kind], re.DOTALL)
    assert named, "has no line of code and tests"
    for part in named.groups():
        assert FILE.findall(f"{part}`")
    for path in (*FILE.findall(SECTIONS[kind]), *BARE.findall(SECTIONS[kind])):
        assert (ROOT / path).exists(), path


def test_every_module_and_function_that_is_named_exists():
    for name in NAME.findall(TEXT):
        path = ROOT.joinpath(*name.split("."))
        module = path.with_suffix(".py")
        inside = path.parent.with_suffix(".py")
        defines = rf"(def|class) {path.name}\b|^{path.name}\b"
        assert (
            path.is_dir()
            or module.is_file()
            or (inside.is_file() and re.search(defines, inside.read_text("utf-8"), re.MULTILINE))
        ), name


def test_every_file_of_figures_exists():
    for name in set(re.findall(r"\b([a-z_]+\.json)\)", TEXT)) | set(
        re.findall(r"benchmarks/results/([a-z_]+\.json)", TEXT)
    ):
        assert (ROOT / "benchmarks" / "results" / name).is_file(), name
