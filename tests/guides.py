"""Run a guide's own text: its files and its commands, from an empty folder."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def write_files(page, folder):
    """Write the blocks of a page that begin with `# NAME`; their names, in order."""
    names = []
    for _, text in FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        name = re.match(r"# (\S+\.\w+)\n", text)
        if name:
            (folder / name[1]).write_text(text, encoding="utf-8")
            names.append(name[1])
    return names


def commands(page):
    """Words of each `worldmodel` command in the blocks of a page, without `worldmodel`."""
    blocks = FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    text = "\n".join(text for language, text in blocks if not language)
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(x, comments=True)[1:] for x in lines if x.startswith("worldmodel ")]


def code_lines(text):
    """Number of lines of a file that are neither empty nor a comment."""
    return sum(bool(x.strip()) and not x.strip().startswith("#") for x in text.splitlines())
