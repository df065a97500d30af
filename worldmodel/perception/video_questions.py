"""Paired questions about videos: MVPBench and CausalVQA, and their prompts.

An encoder and its predictor cannot answer them: a language model that sees the video must. This
module reads the published annotations and makes the prompts; `video_answers` scores that model.

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
    row = json_row(line)
    texts = {key: text_field(row, key) for key in ("video_id", "video_path", "question", "answer")}
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


def json_row(line: str) -> dict[str, Any]:
    """Return the object of a line of a JSONL file.

    Raises:
        DataError: The line is not a JSON object.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({str(error)[:200]})") from error
    if not isinstance(row, dict):
        raise DataError("is not a JSON object")
    return row


def text_field(row: dict[str, Any], key: str) -> str:
    """Return a row's text of a name.

    Raises:
        DataError: It is missing, empty or no text.
    """
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
    for key in ("qid", "question", "renamed_video"):
        text_field(row, key)
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


def _fault(questions: list[Question]) -> str:
    """Return why questions are no pair, or an empty text."""
    if len(questions) != 2 or questions[0].name == questions[1].name:
        return f"has {len(questions)} questions; a pair has two"
    one, other = questions
    answers = {q.choices[LETTERS.index(q.answer)] for q in questions if q.answer}
    if one.video != other.video and len(answers) == 1:  # two videos have opposite answers
        return f"both of its videos have the answer {answers.pop()[:200]!r}"
    same = one.video == other.video and set(one.choices) == set(other.choices)
    if same and len(answers) == 2:  # two orders of the choices have one answer
        return f"its two orders have different answers: {sorted(answers)}"
    return ""


def _complete(found: list[Question], rejected: dict[str, str], path: Path) -> QuestionSet:
    """Keep the pairs that have two questions; name the others."""
    pairs: dict[str, list[Question]] = defaultdict(list)
    for question in found:
        pairs[question.pair].append(question)
    kept: list[Question] = []
    for name, questions in pairs.items():
        reason = _fault(questions)
        if reason:
            rejected[name] = reason
        else:
            kept += questions
    if not kept:
        reason = next(iter(rejected.values()), "it is empty")
        raise DataError(f"{path} has no pair of questions ({reason})")
    return QuestionSet(kept, rejected)


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
