"""`worldmodel questions`: prompts and scores of paired questions about videos."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from planning.errors import PlanError
from planning.ranges import check_fields

NOTE = (
    "An encoder and its predictor cannot answer these questions: a language model that sees the "
    "videos must."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `worldmodel questions`."""

    benchmark: Literal["mvp", "causalvqa"]
    """Layout of the annotations, as the set's authors publish it."""
    data: str
    """Annotations: for MVPBench a JSONL file or a folder of them, for CausalVQA a CSV file."""
    videos: str = ""
    """Base folder of the videos, for the paths in the prompts (default: paths as annotated); a
    question whose video is missing there is named and left out with its partner."""
    answers: str = ""
    """JSONL file of a language model's answers, rows with `id` and `answer`, to score (default:
    write the prompts)."""
    out: str = "runs/questions"
    """Output folder for prompts.jsonl, or for summary.json with answers=FILE."""

    def __post_init__(self) -> None:
        check_fields(self)


def run(options: Options) -> int:
    """Write the prompts, or score answers."""
    from planning.metrics import wilson
    from worldmodel.atomic_io import write_json, write_text
    from worldmodel.perception import video_questions as vq
    from worldmodel.perception.video_answers import read_answers, score_answers

    read = vq.read_mvp if options.benchmark == "mvp" else vq.read_causalvqa
    if not Path(options.data).exists():
        raise PlanError(f"data={options.data!r} does not exist. Give data=FILE, the annotations.")
    found = read(Path(options.data))
    videos = Path(options.videos) if options.videos else None
    if videos:
        found = vq.with_videos(found, videos)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, reason in found.rejected.items():
        print(f"rejected {name}: {reason}")
    if not options.answers:
        rows = vq.prompts(found.questions, videos)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_text(out / "prompts.jsonl", text)
        print(f"{out / 'prompts.jsonl'}: {len(found.questions)} questions. {NOTE}")
        print(f"next: worldmodel questions benchmark={options.benchmark} data={options.data} \\")
        print("    answers=ANSWERS.jsonl")
        return 0
    damaged: dict[str, str] = {}
    scored = score_answers(found.questions, read_answers(Path(options.answers), damaged))
    for name, reason in damaged.items():
        print(f"rejected {name}: {reason}")
    groups = {
        name: {
            **asdict(s),
            "paired": s.paired,
            "single": s.single,
            "paired_ci95": [100 * x for x in wilson(s.pairs_right, s.pairs)],
        }
        for name, s in scored.groups.items()
    }
    rejected = found.rejected | damaged
    facts = {"unanswered": scored.unanswered, "unknown": scored.unknown, "rejected": rejected}
    write_json(out / "summary.json", {"options": asdict(options), "scores": groups, **facts})
    for name, s in scored.groups.items():
        low, high = wilson(s.pairs_right, s.pairs)
        print(
            f"{name:28s} {s.pairs:5d} pairs: both right {s.paired:.1f} % [{100 * low:.1f}, "
            f"{100 * high:.1f}], questions right {s.single:.1f} %"
        )
    print(f"{len(scored.unanswered)} questions without a readable answer count as wrong.")
    print(f"{len(scored.unknown)} answers belong to no question. {out / 'summary.json'}")
    return 0
