"""Demonstrate the planner: a few episodes beside a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planning.apps.evaluate import evaluate_agents
from planning.options import DemoOptions, EvalOptions, SceneOptions
from planning.report.page import write_report
from planning.report.video import webp_bytes
from planning.report.views import beside_goals
from worldmodel.atomic_io import write_bytes
from worldmodel.checkpoints.loading import load_world_model


def demonstrate(options: DemoOptions) -> tuple[dict[str, Any], Path]:
    """Run pick and place and one baseline; return the summary and the report's path."""
    settings = EvalOptions(
        scene=SceneOptions(task="pick_place"),
        model=options.model,
        episodes=options.episodes,
        seed=options.seed,
        planner=options.planner,
        workers=options.workers,
    )
    world = load_world_model(settings.model, settings.device)
    found = evaluate_agents(settings, world, ("pose_only",))
    out = Path(options.out)
    title = "Pick and place by imagination"
    page = write_report(out, title, found.summary, found.episodes, found.others)
    frames = [frame for episode in found.episodes for frame in beside_goals(episode)]
    if frames:
        write_bytes(out / "demo.webp", webp_bytes(frames, scale=2))
    return found.summary, page
