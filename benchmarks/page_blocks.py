"""Write measured results into the marked blocks of a hand-written page.

A block of a Markdown page is between `<!-- figures: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def fill_blocks(page: Path, blocks: Mapping[str, str]) -> None:
    """Replace the content of the named blocks of `page`.

    Raises:
        ValueError: The page has no block of one of these names.
    """
    text = page.read_text(encoding="utf-8")
    for name, content in blocks.items():
        pattern = re.compile(
            rf"(<!-- figures: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL
        )
        if not pattern.search(text):
            raise ValueError(f"{page} has no block `<!-- figures: {name} -->`: add it")
        filled = f"\n{content.strip()}\n\n" if content.strip() else ""
        text = pattern.sub(lambda found, new=filled: found[1] + new + found[2], text)  # type: ignore[misc]
    page.write_text(text, encoding="utf-8")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format a Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines).replace("|  |", "| |")


def wrap(text: str) -> str:
    """Wrap a paragraph at 100 characters."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
