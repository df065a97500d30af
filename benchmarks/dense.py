"""Read depth and classes of pixels from frozen tokens of an encoder pretrained on made clips.

    python benchmarks/dense.py                        # an hour or more of one core
    python benchmarks/dense.py shapes=runs/shapes     # with a run of the recipe that is there
    python benchmarks/dense.py only=page              # the table in docs/probes.md alone

`worldmodel data dense` renders the images, `worldmodel probe dense` trains the heads: on the
encoder of `worldmodel pretrain recipe=shapes`, which has seen moving shapes and no robot, and on
the same encoder untrained. What is done is not done again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from option_words import read_words
from page_blocks import fill_blocks, markdown_table

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "dense.json"
PAGE = ROOT / "docs" / "probes.md"
TITLES = {
    "without": "best guess without the image",
    "untrained": "untrained encoder",
    "shapes": "pretrained on made clips (V-JEPA)",
}
FIGURES = {"segmentation": ("mean_iou", "pixel_accuracy"), "depth": ("rmse_m", "relative_error")}


def worldmodel(*words: str) -> None:
    """Run a command; end the script if it fails."""
    code = "import sys; from planning.cli.app import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", code, *words], check=True, cwd=ROOT)


def measure(out: Path, shapes: str) -> dict[str, Any]:
    """Make what is missing; return the figures."""
    images = out / "set"
    if not (images / "classes.txt").is_file():
        worldmodel("data", "dense", f"out={images}", "train=400", "val=100", "image_size=160")
    encoders = {
        "untrained": out / "untrained",
        "shapes": Path(shapes) if shapes else out / "shapes",
    }
    for name, folder in encoders.items():
        if not (folder / "encoder.safetensors").is_file():
            steps = ["steps=0"] if name == "untrained" else []
            worldmodel("pretrain", "recipe=shapes", *steps, f"out={folder}")
    rows: dict[str, dict[str, float]] = {name: {} for name in TITLES}
    facts: dict[str, Any] = {}
    for name, folder in encoders.items():
        for task, figures in FIGURES.items():
            probe = out / f"{name}-{task}"
            if not (probe / "summary.json").is_file():
                parts = [f"{part}={images / part}" for part in ("train", "val")]
                file = f"encoder={folder / 'encoder.safetensors'}"
                words = [f"task={task}", *parts, file, "image_size=160", f"out={probe}"]
                worldmodel("probe", "dense", *words)
            found = json.loads((probe / "summary.json").read_text("utf-8"))
            rows[name] |= {key: found["val"][key] for key in figures}
            rows["without"] |= {key: found["without_image"][key] for key in figures}
            facts = {key: found[key] for key in ("trained_on", "chosen_on", "val_items")}
    return {"rows": rows, **facts}


def write_page(result: dict[str, Any]) -> None:
    """Fill the block of the page."""
    head = ["linear head on", "mean IoU", "pixels right", "depth: RMSE", "relative error"]
    rows = [
        [
            TITLES[name],
            f"{row['mean_iou']:.3f}",
            f"{100 * row['pixel_accuracy']:.1f} %",
            f"{row['rmse_m']:.2f} m",
            f"{100 * row['relative_error']:.0f} %",
        ]
        for name, row in result["rows"].items()
    ]
    fill_blocks(PAGE, {"dense": markdown_table(head, rows)})


def main() -> None:
    """Measure what is missing, then write the results and the page."""
    options = read_words(sys.argv[1:], {"out": "runs/dense", "shapes": "", "only": ""})
    if options["only"] != "page":
        found = measure(Path(options["out"]).resolve(), options["shapes"])
        RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_page(json.loads(RESULT.read_text("utf-8")))
    print(PAGE)


if __name__ == "__main__":
    main()
