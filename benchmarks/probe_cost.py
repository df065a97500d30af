"""Measure what a grid of 20 probe heads costs beside one head, in processor time.

python benchmarks/probe_cost.py            # two minutes of one core; resumes
python benchmarks/probe_cost.py page       # the table in docs/probes.md alone

The encoder is a ViT-S on 392 tokens (16 frames of 112 px). Heads of depth 1 take the published
batch of 256 clips, those of depth 4 a batch of 8. `whole run` adds 20 epochs of updates to one
encoding of the items, `random views` adds one encoding to each epoch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from page_blocks import fill_blocks, markdown_table

from worldmodel.atomic_io import write_json
from worldmodel.checkpoints.loading import load_encoder
from worldmodel.models.config import ProbeConfig
from worldmodel.perception.heads.grid import grid
from worldmodel.perception.probes.classifiers import ProbeGrid
from worldmodel.perception.probes.recipes import RECIPES

HERE = Path(__file__).parent
OUT, PAGE = HERE / "results" / "probe_cost.json", HERE.parent / "docs" / "probes.md"
BATCH = {1: 256, 4: 8}
"""Depth of the heads -> clips of an update."""
ENCODED, EPOCHS, ROUNDS = 8, 20, 2
WIDTH, HEADS, CLASSES, TOKENS = 384, 6, 174, 392
ENCODING = "encoding"


def milliseconds(work: Callable[[], object], clips: int) -> float:
    """Return the least processor time of a clip in a few rounds, after one that warms up [ms]."""
    work()
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return 1000 * min(found) / clips


def encoding_ms() -> float:
    """Return the time of encoding a clip [ms]."""
    encoder = load_encoder("random:vit_small", "cpu", image_size=112)
    clips = torch.randint(256, (ENCODED, 16, 112, 112, 3), dtype=torch.uint8)
    return milliseconds(lambda: encoder.encode_clip(clips), ENCODED)


def update_ms(depth: int, num_heads: int, *, share: bool = True) -> float:
    """Return the time that updating heads takes for a clip [ms]."""
    recipe, clips = RECIPES["ssv2"], BATCH[depth]
    settings = grid(recipe.rates, recipe.decays)[:num_heads]
    config = ProbeConfig(embed_dim=WIDTH, num_heads=HEADS, depth=depth, num_classes=CLASSES)
    heads = ProbeGrid(config, settings, 1000)
    if not share:
        heads.poolers = []
    tokens, labels = torch.randn(1, clips, TOKENS, WIDTH), torch.arange(clips) % CLASSES
    return milliseconds(lambda: heads.update(tokens, labels), clips)


ROWS: dict[str, Callable[[], float]] = {
    ENCODING: encoding_ms,
    "depth 1, 1 head, not folded": lambda: update_ms(1, 1, share=False),
    "depth 1, 1 head": lambda: update_ms(1, 1),
    "depth 1, 20 heads": lambda: update_ms(1, 20),
    "depth 4, 1 head": lambda: update_ms(4, 1),
    "depth 4, 20 heads": lambda: update_ms(4, 20),
}


def table(ms: Mapping[str, float]) -> str:
    """Return the page's table."""
    encode, lines = ms[ENCODING], []
    for depth, plain in (
        ("depth 1", "depth 1, 1 head, not folded"),
        ("depth 4", "depth 4, 1 head"),
    ):
        one, many = ms[f"{depth}, 1 head"], ms[f"{depth}, 20 heads"]
        ratios = [
            many / ms[plain],
            many / one,
            (encode + EPOCHS * many) / (encode + EPOCHS * one),
            (encode + many) / (encode + one),
        ]
        lines.append([depth, f"{one:.1f} ms", f"{many:.1f} ms", *(f"{r:.2f} x" for r in ratios)])
    head = ["probe", "1 head", "20 heads", "20 against 1 that is not folded"]
    head += ["stored tokens, updates alone", "whole run", "random views"]
    text = f"Encoding a clip takes {encode:.0f} ms. An update takes, per clip and as a ratio:"
    return f"{text}\n\n{markdown_table(head, lines)}"


def write_page(found: Mapping[str, float]) -> None:
    """Write the figures into the page."""
    fill_blocks(PAGE, {"cost": table(found)})


def main() -> None:
    """Measure what has no result unless told otherwise, and write the table."""
    found: dict[str, float] = json.loads(OUT.read_text("utf-8")) if OUT.is_file() else {}
    torch.set_num_threads(1)
    for name, measure in ROWS.items():
        if name not in found and "page" not in sys.argv[1:]:
            found[name] = measure()
            write_json(OUT, found)
    write_page(found)
    print(PAGE)


if __name__ == "__main__":
    main()
