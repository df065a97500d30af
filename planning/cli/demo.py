"""`worldmodel demo`: the embedded model picks and places, from goal images alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from planning.cli import eval as evaluation
from planning.report.page import beside_goals, gif_bytes, write_report


@dataclass
class Options:
    """Options of `worldmodel demo`."""

    episodes: int = field(default=5, metadata={"help": "how many"})
    model: str = field(default="default", metadata={"help": "embedded name or file"})
    seed: int = field(default=7, metadata={"help": "evaluation seed"})
    out: str = field(default="runs/demo", metadata={"help": "folder of the report"})


def run(options: Options) -> int:
    """Run pick-and-place episodes, write the report, print its path last."""
    print(
        f"{options.episodes} pick-and-place episodes in MuJoCo. The planner sees the camera and "
        "four goal images; it imagines 600 futures for every action.",
        flush=True,
    )
    settings = evaluation.Options(
        task="pick_place",
        model=options.model,
        episodes=options.episodes,
        seed=options.seed,
        out=options.out,
    )
    episodes = evaluation.run_episodes(settings, "planner")
    baselines = {"pose_only": evaluation.run_episodes(settings, "pose_only")}
    summary = evaluation.summarise(settings, episodes, baselines)
    page = write_report(Path(options.out), "Pick and place by imagination", summary, episodes)
    frames = [frame for episode in episodes for frame in beside_goals(episode)]
    if frames:
        (Path(options.out) / "demo.gif").write_bytes(gif_bytes(frames))
    evaluation.print_table(summary)
    print(f"report: {page.resolve()}")
    return 0
