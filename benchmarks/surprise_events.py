"""Write the surprise of the embedded models at impossible events into docs/imagination.md.

python benchmarks/surprise_events.py            # three minutes of one core for each model; resumes
python benchmarks/surprise_events.py page       # the page alone
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from page_blocks import fill_blocks, markdown_table

from worldmodel.atomic_io import write_json

HERE = Path(__file__).parent
RESULT = HERE / "results" / "surprise_events.json"
PAGE = HERE.parent / "docs" / "imagination.md"
OUT = Path("runs/surprise_events")
MODELS = ("default", "unlabelled", "one_goal", "one_goal_labelled")
LEFT_OUT = {"steps", "errors_without", "errors_with"}


def main() -> None:
    """Run the command for each model without a result, and write the table."""
    found = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    for model in MODELS if "page" not in sys.argv[1:] else ():
        if model in found:
            continue
        words = ["inspect", "surprise", f"model={model}", f"out={OUT / model}", "device=cpu"]
        subprocess.run([sys.executable, "-m", "worldmodel", *words], check=True)
        events = json.loads((OUT / model / "summary.json").read_text(encoding="utf-8"))["events"]
        found[model] = {
            event: {key: value for key, value in figures.items() if key not in LEFT_OUT}
            for event, figures in events.items()
        }
        write_json(RESULT, found)
    rows = [
        [
            model,
            event.replace("_", " "),
            f"{f['auroc']:.2f} ({f['low']:.2f} to {f['high']:.2f})",
            f"{f['ratio']:.2f}",
            f"{f['found_at']}/{f['episodes']}",
            f"{f['pairs_won']}/{f['episodes']}",
        ]
        for model, events in found.items()
        for event, f in events.items()
    ]
    head = ["model", "event", "AUROC (95 %)", "error ratio", "largest at the event", "pairs"]
    fill_blocks(PAGE, {"surprise": markdown_table(head, rows)})
    print(PAGE)


if __name__ == "__main__":
    main()
