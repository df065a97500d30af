"""Answers of a language model to paired questions about videos, and their scores."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from worldmodel.data.files import read_text
from worldmodel.errors import DataError
from worldmodel.perception.video_questions import LETTERS, Question, json_row, text_field

SAID = re.compile(r"(?i:answer)(?:\s+is)?[\s:=*_`\"'(\[{]*([A-J]\b|[a-j]\b(?!\s+\w))")
"""A stated letter, also in Markdown; a small one before a word is an article: a red ball."""
ALONE = re.compile(r"\W*([A-J])\W*", re.IGNORECASE)


@dataclass(frozen=True)
class PairedAccuracy:
    """Scores of a group of questions; a question without a readable answer counts as wrong."""

    pairs: int
    pairs_right: int
    """Number of pairs with both questions right."""
    questions_right: int

    @property
    def paired(self) -> float:
        """Pairs with both questions right [%]."""
        return 100 * self.pairs_right / self.pairs

    @property
    def single(self) -> float:
        """Questions that are right [%]."""
        return 50 * self.questions_right / self.pairs


def letter_of(text: str, choices: Iterable[str]) -> str:
    """Return the letter that an answer gives, or an empty text if it gives none or several.

    `Answer: A` counts anywhere in a text, the last one if there are several; otherwise the text is
    a letter alone, or one of the choices.
    """
    known = tuple(choices)
    said = SAID.findall(text)
    alone = ALONE.fullmatch(text)
    letter = said[-1] if said else alone[1] if alone else ""
    if not letter and text.strip() in known:
        letter = LETTERS[known.index(text.strip())]
    return letter.upper() if letter.upper() in LETTERS[: len(known)] else ""


def read_answers(path: Path, rejected: dict[str, str] | None = None) -> dict[str, str]:
    """Read a JSONL file of answers, rows with `id` and `answer`.

    Args:
        path: The file.
        rejected: Takes the lines that are no such row (`FILE:LINE`) with the reason; without it,
            such a line is an error. A question with two different answers has none.

    Raises:
        DataError: The file cannot be read, or a line of it (none can, with `rejected`).
    """
    found: dict[str, str] = {}
    reasons: dict[str, str] = {}
    refused: set[str] = set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            if line.strip():
                _add_answer(line, found, refused)
        except DataError as error:
            if rejected is None:
                raise DataError(f"{path}:{number} {error}") from error
            reasons[f"{path.name}:{number}"] = str(error)
    if reasons and not found:
        raise DataError(f"no line of {path} can be used; the first: {next(iter(reasons.values()))}")
    if rejected is not None:
        rejected |= reasons
    return {name: answer for name, answer in found.items() if name not in refused}


def _add_answer(line: str, found: dict[str, str], refused: set[str]) -> None:
    row = json_row(line)
    name, answer = text_field(row, "id"), row.get("answer")
    if not isinstance(answer, str):
        raise DataError(f"id {name[:200]!r} has {str(answer)[:200]} as `answer`; needed: a text")
    if name in found:
        if answer != found[name]:
            refused.add(name)
        raise DataError(f"id {name[:200]!r} occurs twice")
    found[name] = answer


@dataclass(frozen=True)
class Scored:
    """Scores by group, and the questions without a readable answer."""

    groups: dict[str, PairedAccuracy]
    """Group -> scores; `all` has all pairs."""
    unanswered: list[str]
    unknown: list[str]
    """Answers to questions that the set does not have."""


def score_answers(questions: list[Question], answers: dict[str, str]) -> Scored:
    """Score answers: as published, a pair counts if both of its questions are right.

    Raises:
        DataError: The right answers are withheld.
    """
    if not all(question.answer for question in questions):
        raise DataError(
            "the right answers are not in the annotations (the authors withhold those of the test "
            "set): send the answers to their leaderboard, or score the debug set"
        )
    given = {q.name: letter_of(answers.get(q.name, ""), q.choices) for q in questions}
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for question in questions:
        for group in ("all", *question.groups):
            right[group][question.pair].append(given[question.name] == question.answer)
    groups = {
        group: PairedAccuracy(
            len(pairs), sum(all(found) for found in pairs.values()), sum(map(sum, pairs.values()))
        )
        for group, pairs in right.items()
    }
    return Scored(
        groups,
        [name for name, letter in given.items() if not letter],
        sorted(answers.keys() - given.keys()),
    )
