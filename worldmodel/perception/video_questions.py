"""Paired questions about videos: MVPBench and CausalVQA, their prompts and their scores.

An encoder and its predictor cannot answer them: a language model that sees the video must. This
module reads the published annotations, makes the prompts, and scores that model's answers.

| set | file | columns | pair |
|---|---|---|---|
| MVPBench | JSONL | `video_id`, `video_path`, `question`, `candidates`, `answer` | two videos |
| CausalVQA | CSV | `qid`, `question`, `choices1`, `correct1`, `choices2`, ... | two orders |

Sources: MVPBench (arXiv 2506.09987), CausalVQA (arXiv 2506.09943). A question that cannot be used
costs its pair, which is named.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldmodel.data.files import read_text
from worldmodel.errors import DataError
from worldmodel.perception.tables import read_rows

LETTERS = "ABCDEFGHIJ"
OPTION = re.compile(r"\s*([0-9])\s*[.):]?\s*(.*)", re.DOTALL)
"""An option of CausalVQA: its number and its text."""
SAID = re.compile(r"(?i:answer)(?:\s+is)?[\s:=*_`\"'(\[{]*([A-J]\b|[a-j]\b(?!\s+\w))")
"""A stated letter, also in Markdown; a small one before a word is an article: a red ball."""
ALONE = re.compile(r"\W*([A-J])\W*", re.IGNORECASE)
CAUSAL = ("qid", "type", "question", "choices1", "choices2", "difficulty", "renamed_video")


@dataclass(frozen=True)
class Question:
    """A question about a video with several choices."""

    name: str
    """Identifier, which answers refer to."""
    pair: str
    """Identifier of its pair."""
    video: str
    """Path of the video, as the annotations name it."""
    text: str
    choices: tuple[str, ...]
    answer: str
    """Letter of the right choice; empty where the authors withhold it."""
    groups: tuple[str, ...]
    """Subsets that the question belongs to."""

    @property
    def prompt(self) -> str:
        """The question and its lettered choices, with the form of the answer."""
        options = "\n".join(f"({LETTERS[i]}) {text}" for i, text in enumerate(self.choices))
        letters = ", ".join(LETTERS[: len(self.choices)])
        return (
            f"Question: {self.text}\nOption:\n{options}\n"
            f"Answer with one letter ({letters}) in this form: 'Answer: A'."
        )


@dataclass(frozen=True)
class QuestionSet:
    """Complete pairs of questions, and the reasons for rejecting others."""

    questions: list[Question]
    rejected: dict[str, str]
    """Line, row or pair -> reason."""


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


def read_mvp(path: Path) -> QuestionSet:
    """Read MVPBench's annotations: a JSONL file of a subset, or a folder of them.

    Raises:
        DataError: There is no complete pair.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    found: list[Question] = []
    rejected: dict[str, str] = {}
    for file in files:
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            if not line.strip():
                continue
            try:
                found.append(_mvp_question(line, file.stem))
            except DataError as error:
                rejected[f"{file.name}:{number}"] = str(error)
    return _complete(found, rejected, path)


def _mvp_question(line: str, subset: str) -> Question:
    row = _json_row(line)
    texts = {key: _text(row, key) for key in ("video_id", "video_path", "question", "answer")}
    choices = _choices(row.get("candidates"))
    if texts["answer"] not in choices:
        raise DataError(f"answer {texts['answer'][:200]!r} is none of the candidates {choices}")
    pair, _, last = texts["video_id"].rpartition("_")
    if not pair or not last:
        raise DataError(f"video_id {texts['video_id'][:200]!r} does not end in _ and a part")
    return Question(
        name=texts["video_id"],
        pair=pair,
        video=texts["video_path"],
        text=texts["question"],
        choices=choices,
        answer=LETTERS[choices.index(texts["answer"])],
        groups=(subset,),
    )


def _json_row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({str(error)[:200]})") from error
    if not isinstance(row, dict):
        raise DataError("is not a JSON object")
    return row


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{key} is {str(value)[:200]!r}; needed: a text")
    return value


def _choices(value: object) -> tuple[str, ...]:
    """Return the candidates, which some files hold as a list and others as a list's text."""
    if isinstance(value, str):
        text = value
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise DataError(f"candidates {text[:200]!r} are not a list") from error
    items = value if isinstance(value, list) else []
    texts = [item for item in items if isinstance(item, str)]
    if not 2 <= len(texts) == len(items) <= len(LETTERS):
        raise DataError(f"candidates are {str(value)[:200]}; needed: 2 to {len(LETTERS)} texts")
    return tuple(texts)


def read_causalvqa(path: Path) -> QuestionSet:
    """Read CausalVQA's annotations, a CSV file; the test set's answers are withheld.

    Raises:
        DataError: A column or every pair is missing.
    """
    found: list[Question] = []
    rejected: dict[str, str] = {}
    for number, row in enumerate(read_rows(path, CAUSAL), start=2):
        try:
            found += [_causal_question(row, order) for order in ("1", "2")]
        except DataError as error:
            rejected[f"{path.name}:{number}"] = str(error)
    return _complete(found, rejected, path)


def _causal_question(row: dict[str, str], order: str) -> Question:
    options = [OPTION.fullmatch(text) for text in row[f"choices{order}"].split("|")]
    if not 2 <= len(options) <= len(LETTERS) or not all(options):
        raise DataError(
            f"choices{order} are {row[f'choices{order}'][:200]!r}; needed: 1. ...|2. ..."
        )
    numbers = [option[1] for option in options if option]
    right = row.get(f"correct{order}", "").strip().removesuffix(".0")
    if right and right not in numbers:
        raise DataError(f"correct{order} is {right[:200]!r}; allowed: {', '.join(numbers)}")
    return Question(
        name=f"{row['qid']}/{order}",
        pair=row["qid"],
        video=row["renamed_video"],
        text=row["question"],
        choices=tuple(option[2].strip() for option in options if option),
        answer=LETTERS[numbers.index(right)] if right else "",
        groups=(row["type"], row["difficulty"]),
    )


def _complete(found: list[Question], rejected: dict[str, str], path: Path) -> QuestionSet:
    """Keep the pairs that have two questions; name the others."""
    pairs: dict[str, list[Question]] = defaultdict(list)
    for question in found:
        pairs[question.pair].append(question)
    kept: list[Question] = []
    for name, questions in pairs.items():
        if len(questions) == 2 and questions[0].name != questions[1].name:
            kept += questions
        else:
            rejected[name] = f"has {len(questions)} questions; a pair has two"
    if not kept:
        reason = next(iter(rejected.values()), "it is empty")
        raise DataError(f"{path} has no pair of questions ({reason})")
    return QuestionSet(kept, rejected)


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


def read_answers(path: Path) -> dict[str, str]:
    """Read a JSONL file of answers, rows with `id` and `answer`.

    Raises:
        DataError: A line is not such a row, or an identifier occurs twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = _json_row(line)
            name = _text(row, "id")
            if not isinstance(row.get("answer"), str) or name in found:
                raise DataError(f"id {name[:200]!r} has no text as `answer`, or occurs twice")
        except DataError as error:
            raise DataError(f"{path}:{number} {error}") from error
        found[name] = row["answer"]
    return found


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


def with_videos(found: QuestionSet, videos: Path) -> QuestionSet:
    """Leave out, and name, the pairs of which a video is missing in a folder.

    Raises:
        DataError: No pair is left.
    """
    missing = {
        q.pair: f"there is no {videos / q.video}"
        for q in found.questions
        if not (videos / q.video).is_file()
    }
    kept = [question for question in found.questions if question.pair not in missing]
    return _complete(kept, {**found.rejected, **missing}, videos)


def prompts(questions: Iterable[Question], videos: Path | None) -> Iterator[dict[str, object]]:
    """Yield the rows of a prompts file: `id`, `video`, `prompt` and `choices`, without the answer.

    Args:
        questions: The questions.
        videos: Base folder of the videos' paths, or None for the paths as they are.
    """
    for question in questions:
        video = str(videos / question.video) if videos else question.video
        yield {
            "id": question.name,
            "video": video,
            "prompt": question.prompt,
            "choices": list(question.choices),
        }
