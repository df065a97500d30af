"""Self-contained web page with the start, goals, motion and outcome of every episode."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from planning.atomic_write import write_text
from planning.rollout import Episode

STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;color:#222}
table{border-collapse:collapse}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}
figure{display:inline-block;margin:.3rem .6rem .3rem 0}figcaption{font-size:.8rem;color:#555}
img{display:block;border-radius:4px}.ok{color:#176b2c}.no{color:#a32014}h3{margin-top:1.8rem}"""


def gif_bytes(frames: list[NDArray[np.uint8]], fps: float = 6.0, scale: int = 2) -> bytes:
    """Return an animated GIF of RGB frames.

    Args:
        frames: uint8 [H, W, 3] each, of one size.
        fps: frames per second.
        scale: integer scale factor.
    """
    pictures = [Image.fromarray(f) for f in frames]
    if scale > 1:
        pictures = [p.resize((p.width * scale, p.height * scale)) for p in pictures]
    pictures = [p.quantize(64, dither=Image.Dither.NONE) for p in pictures]
    out = io.BytesIO()
    pictures[0].save(
        out, "GIF", save_all=True, append_images=pictures[1:], duration=int(1000 / fps), loop=0
    )
    return out.getvalue()


def _picture(data: bytes, kind: str, caption: str, size: int = 192) -> str:
    text = base64.b64encode(data).decode()
    return (
        f'<figure><img width={size} height={size} src="data:image/{kind};base64,{text}" '
        f'alt="{html.escape(caption)}"><figcaption>{html.escape(caption)}</figcaption></figure>'
    )


def png_bytes(frame: NDArray[np.uint8], level: int = 6) -> bytes:
    """Return a PNG file of an RGB frame, compressed at a level of 0 to 9."""
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG", compress_level=level)
    return out.getvalue()


def energy_plot(episode: Episode, width: int = 420, height: int = 150) -> str:
    """Return an SVG plot of energy over steps, with a line at each change of sub-goal.

    `width` and `height` are in px. Episodes with fewer than two energies give an empty plot.
    """
    values = [e for e in episode.energies if np.isfinite(e)]
    if len(values) < 2:
        return ""
    top = max(values) * 1.05
    step = (width - 40) / max(1, len(values) - 1)
    points = " ".join(
        f"{35 + i * step:.1f},{height - 20 - v / top * (height - 35):.1f}"
        for i, v in enumerate(values)
    )
    changes = [i for i in range(1, len(values)) if episode.sub_goals[i] != episode.sub_goals[i - 1]]
    lines = "".join(
        f'<line x1="{35 + i * step:.1f}" x2="{35 + i * step:.1f}" y1="10" y2="{height - 20}" '
        'stroke="#bbb" stroke-dasharray="3"/>'
        for i in changes
    )
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="energy over steps">{lines}'
        f'<polyline points="{points}" fill="none" stroke="#2457a6" stroke-width="2"/>'
        f'<text x="0" y="14" font-size="11">{top:.2f}</text>'
        f'<text x="0" y="{height - 20}" font-size="11">0</text>'
        f'<text x="{width // 2 - 60}" y="{height - 4}" font-size="11">energy over steps</text></svg>'
    )


def beside_goals(episode: Episode) -> list[NDArray[np.uint8]]:
    """Return each frame beside its current sub-goal, [H, 2 W, 3]."""
    due = [*episode.sub_goals, episode.sub_goals[-1]] if episode.sub_goals else []
    return [
        np.concatenate([frame, episode.goals[index].image], axis=1)
        for frame, index in zip(episode.frames, due, strict=False)
    ]


def episode_section(episode: Episode) -> str:
    """Return an episode's HTML."""
    word = "success" if episode.success else f"failure: {episode.reason}"
    kind = "ok" if episode.success else "no"
    known = np.isfinite(episode.error_m)
    distance = f"final error {episode.error_m * 100:.1f} cm, " if known else ""
    parts = [
        f'<h3>Seed {episode.seed}: <span class="{kind}">{html.escape(word)}</span> '
        f"({distance}{len(episode.actions)} actions)</h3>"
    ]
    if episode.frames:
        parts.append(_picture(png_bytes(episode.frames[0]), "png", "start"))
    for goal in episode.goals:
        parts.append(_picture(png_bytes(goal.image), "png", f"goal: {goal.name}"))
    if episode.frames:
        parts.append(_picture(gif_bytes(episode.frames, scale=1), "gif", "what happened"))
    parts.append(f"<div>{energy_plot(episode)}</div>")
    return "\n".join(parts)


def label(key: object) -> str:
    """Return a key of the summary as words, with its unit in brackets."""
    words = str(key).replace("_", " ")
    return f"{words[:-2]} [{words[-1]}]" if words.endswith((" m", " s")) else words


def cell(value: object) -> str:
    """Return the HTML of a value: short numbers, lists with commas, a line for each nested row."""
    if isinstance(value, Mapping):
        nested = all(isinstance(v, Mapping) for v in value.values())
        colon = ":" if nested else ""
        lines = [f"{html.escape(label(k))}{colon} {cell(v)}" for k, v in value.items()]
        return ("<br>" if nested else ", ").join(lines) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(cell, value))}]" if value else "none"
    if value is None or value == "":
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else html.escape(str(value))


def write_report(
    out: Path, title: str, summary: Mapping[str, object], episodes: list[Episode]
) -> Path:
    """Write `report.html`, `summary.json` and `episodes.jsonl` into a folder.

    Args:
        out: output folder, created if missing.
        title: heading of the page.
        summary: JSON serialisable values, shown as a table.
        episodes: episodes, with their frames.

    Returns:
        Path of the self-contained page.
    """
    write_text(out / "summary.json", json.dumps(summary, indent=2))
    rows = "".join(json.dumps(e.summary()) + "\n" for e in episodes)
    write_text(out / "episodes.jsonl", rows)
    table = "".join(
        f"<tr><th>{html.escape(label(k))}</th><td>{cell(v)}</td></tr>" for k, v in summary.items()
    )
    body = "\n".join(episode_section(e) for e in episodes)
    page = out / "report.html"
    write_text(
        page,
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><table>{table}</table>{body}</html>",
    )
    return page
