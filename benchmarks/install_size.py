"""Measure the installed size of the base and of each extra, and write them into docs/install.md.

    python benchmarks/install_size.py                # asks pip what it would install; some minutes
    python benchmarks/install_size.py extras=a,b     # only these extras, beside the earlier sizes
    python benchmarks/install_size.py page           # only the page

Pip resolves each set (`--dry-run`). The size of a distribution is the sum of its installed files,
if this version is installed here, else of the files in its downloaded wheel.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from option_words import read_words
from page_blocks import fill_blocks, markdown_table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULT = HERE / "results" / "install_size.json"
PAGE = ROOT / "docs" / "install.md"
SKIPPED = {"flash": "not measured: compiled at installation"}
Pins = set[tuple[str, str]]
"""Names and versions of distributions."""


def pip(*words: str) -> str:
    """Run pip and return its output."""
    command = [sys.executable, "-m", "pip", *words, "--quiet", "--disable-pip-version-check"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def resolve(requirement: str) -> Pins:
    """Return what pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = ["install", "--dry-run", "--ignore-installed", "--constraint", "constraints.txt"]
        pip(*words, "--report", str(report), requirement)
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    found = {(i["metadata"]["name"].lower(), i["metadata"]["version"]) for i in items}
    return {pin for pin in found if pin[0] != "worldmodel"}


def installed_bytes(found: Distribution) -> int:
    """Sum the files of an installed distribution, without compiled Python files."""
    paths = [Path(str(found.locate_file(f))) for f in found.files or [] if f.suffix != ".pyc"]
    return sum(p.stat().st_size for p in paths if p.is_file())


def distribution_bytes(name: str, version: str) -> int:
    """Return the size of a distribution's files [bytes]."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        found = None
    if found is not None and found.version.split("+")[0] == version.split("+")[0]:
        return installed_bytes(found)
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "--no-deps", "--dest", folder, f"{name}=={version}")
        (file,) = Path(folder).iterdir()
        if file.suffix != ".whl":
            return file.stat().st_size
        with zipfile.ZipFile(file) as wheel:
            return sum(entry.file_size for entry in wheel.infolist())


def megabytes(pins: Iterable[tuple[str, str]]) -> float:
    """Sum the sizes of distributions [MB, 10^6 bytes]."""
    return round(sum(distribution_bytes(*pin) for pin in pins) / 1e6, 1)


def largest(pins: Pins) -> list[str]:
    """Name the three largest distributions of a set."""
    sizes = sorted(((distribution_bytes(*pin), pin[0]) for pin in pins), reverse=True)
    return [f"{name} {size / 1e6:.0f}" for size, name in sizes[:3]]


def row(pins: Pins) -> dict[str, Any]:
    """Summarise a set of distributions."""
    return {"distributions": len(pins), "megabytes": megabytes(pins), "largest": largest(pins)}


def measure(chosen: list[str], earlier: dict[str, Any]) -> dict[str, Any]:
    """Measure PyTorch, the base without it, and what each extra adds to both.

    Args:
        chosen: Extras to measure; empty for all, and the base.
        earlier: Rows of an earlier measurement, for the others.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    torch, base = resolve("torch"), resolve(".")
    rows: dict[str, Any] = {"PyTorch": row(torch & base), "base": row(base - torch)}
    for extra in project["optional-dependencies"]:
        if chosen and extra not in chosen:
            rows |= {extra: earlier[extra]} if extra in earlier else {}
        elif extra in SKIPPED:
            rows[extra] = {"note": SKIPPED[extra]}
        else:
            rows[extra] = row(resolve(f".[{extra}]") - base)
        print(extra, rows[extra], flush=True)
    own = sum(p.stat().st_size for p in (ROOT / "worldmodel" / "weights").iterdir())
    version = ".".join(str(n) for n in sys.version_info[:2])
    return {"python": version, "weights_megabytes": round(own / 1e6, 1), "rows": rows}


def write_page(found: dict[str, Any]) -> None:
    """Fill the block of docs/install.md."""
    cells = []
    for name, one in found["rows"].items():
        if "note" in one:
            cells.append([f"`{name}`", one["note"], "", ""])
            continue
        label = name if name in ("PyTorch", "base") else f"`{name}`"
        size = f"{one['megabytes']:.0f} MB"
        cells.append([label, size, one["distributions"], ", ".join(one["largest"])])
    head = ["set", "size", "distributions", "largest [MB]"]
    note = (
        f"Python {found['python']}, CPU build of PyTorch. The wheel itself adds "
        f"{found['weights_megabytes']:.0f} MB of embedded weights."
    )
    fill_blocks(PAGE, {"sizes": f"{markdown_table(head, cells)}\n\n{note}"})


def main() -> None:
    """Measure the sizes and write the page."""
    if sys.argv[1:] != ["page"]:
        given = read_words(sys.argv[1:], {"extras": ""})
        earlier = json.loads(RESULT.read_text(encoding="utf-8"))["rows"]
        found = measure([name for name in given["extras"].split(",") if name], earlier)
        RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_page(json.loads(RESULT.read_text(encoding="utf-8")))
    print(PAGE)


if __name__ == "__main__":
    main()
