"""Run the cases and print, for each, what it expects and what it got.

A case is a file `test_NAME.py` in this folder. It builds its own small input, and the first line of
its docstring says what must happen. Usage: `python tests/cases/run_all.py [NAME ...]`, or `make
cases`; the exit status is 0 if every case gives what it expects.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WIDTH = 100


def expected(file: Path) -> str:
    """Return the first paragraph of a file's docstring on one line."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


class Results:
    """A pytest plugin that keeps the outcome of every test by file."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, str]] = defaultdict(dict)
        """File -> test -> "passed", "skipped" with its reason, or the failure in one line."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the first outcome of a test that is not a pass."""
        found = self.outcomes[Path(report.location[0]).name]
        if report.failed:
            lines = str(report.longrepr).strip().splitlines()
            found[report.nodeid] = next(
                (line for line in lines if line.startswith("E ")), lines[-1]
            )
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "skipped"
            found[report.nodeid] = f"not run: {reason}"
        else:
            found.setdefault(report.nodeid, "passed")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the failure to import a file."""
        if report.failed:
            last = str(report.longrepr).strip().splitlines()[-1]
            self.outcomes[Path(report.nodeid).name][report.nodeid] = last


def got(outcomes: dict[str, str]) -> tuple[bool, str]:
    """Return whether every test of a case passed, and the result in words."""
    wrong = [text for text in outcomes.values() if text != "passed"]
    if not outcomes:
        return False, "no test ran"
    if not wrong:
        return True, f"as expected ({len(outcomes)} checks)"
    return False, f"{len(wrong)} of {len(outcomes)} checks differ: {wrong[0].removeprefix('E ')}"


def main(names: list[str]) -> int:
    """Run the named cases, or all of them, print the table and return the exit status."""
    files = sorted(HERE.glob("test_*.py"))
    if names:
        files = [file for file in files if any(name in file.stem for name in names)]
    results = Results()
    options = ["-q", "-p", "no:cacheprovider", "--no-header", "--tb=short", "-o", "addopts="]
    status = pytest.main([*options, *map(str, files)], plugins=[results])
    good = 0
    print(f"\n{'case':40s} result")
    for file in files:
        right, text = got(results.outcomes[file.name])
        good += right
        print(f"{file.stem.removeprefix('test_'):40s} {'ok' if right else 'DIFFERS'}")
        for label, line in (("expected", expected(file)), ("got", " ".join(text.split()))):
            print(
                textwrap.fill(
                    f"{label + ':':10s}{line}",
                    WIDTH,
                    initial_indent=" " * 4,
                    subsequent_indent=" " * 14,
                )
            )
    print(f"{good} of {len(files)} cases as expected")
    return 0 if good == len(files) and not status else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
