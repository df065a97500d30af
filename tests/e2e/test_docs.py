"""The documentation is true: links, lines, imports and commands."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from envs import tasks
from planning.cli.app import main
from planning.cli.commands import COMMANDS, load_command
from planning.cli.fields import layout
from planning.cli.request import read_request

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
ids = [str(p.relative_to(ROOT)) for p in PAGES]


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_prose_fits_100_columns(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [x for x in lines if len(x) > 100 and not x.startswith(("|", "![", "    "))]
    assert long == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_python_blocks_import_what_there_is(page):
    for language, code in FENCE.findall(page.read_text(encoding="utf-8")):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)


def commands_of(text: str) -> list[list[str]]:
    """Words of each `worldmodel COMMAND key=value ...` in blocks and in inline code."""
    found = []
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        if line.strip().startswith("worldmodel "):
            found.append(line.partition("#")[0])
    inline = FENCE.sub("", joined)
    found += re.findall(r"`(worldmodel [^`]+)`", re.sub(r"\n(?!\n)", " ", inline))
    return [shlex.split(x)[1:] for x in found]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_take_the_options_that_the_pages_name(page, capsys):
    for words in commands_of(page.read_text(encoding="utf-8")):
        if words[0] == "COMMAND" or "..." in words[0]:
            continue
        given = [w for w in words if not w.endswith("...") and w not in ("...", "--help")]
        name = next((" ".join(given[:n]) for n in (2, 1) if " ".join(given[:n]) in COMMANDS), None)
        assert name, words
        if "-m" in given:
            own = [w for w in given[len(name.split()) :] if w != "-m" and not w.startswith("hydra")]
            read_request(name, load_command(name).kinds, own, sweep=True)
        elif "=" in " ".join(given) and not re.search(r"=(NAME|FILE)\b", " ".join(given)):
            assert main([*given, "--cfg", "job"]) == 0, (words, capsys.readouterr().err)


def test_the_page_on_cuda_lists_every_command_that_takes_a_device():
    rows = (ROOT / "docs" / "cuda.md").read_text(encoding="utf-8").splitlines()
    listed = " ".join(row.split("|")[1] for row in rows if row.startswith("| `"))
    for name in COMMANDS:
        if any(layout(kind).find("device") for kind in load_command(name).kinds.values()):
            assert re.search(rf"`({name}\b|{name.split()[0]} \.\.\.`)", listed), name


@pytest.mark.parametrize("job", ["environment", "robot", "data layout", "optimiser"])
def test_the_recipes_for_contributors_run(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.split(r"^## Add an? ", text, flags=re.MULTILINE)
    (recipe,) = [s for s in section if s.startswith(job)]
    ((_, code),) = FENCE.findall(recipe)
    known = dict(tasks.TASKS)
    try:
        exec(compile(code, "CONTRIBUTING.md", "exec"), {"__name__": "recipe"})
    finally:
        tasks.TASKS.clear()
        tasks.TASKS.update(known)
