"""`worldmodel bench planning`: compare the planner's speed with the published loop."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from planning.bench_options import BenchOptions

Options = BenchOptions


def run(options: BenchOptions) -> int:
    """Run the benchmark, print the table, and write summary.json and the plot."""
    import torch

    from planning.apps.bench_equal_energy import equal_energy
    from planning.apps.bench_planning import device_name, matmul_peaks, measure_all, plot
    from worldmodel.atomic_io import write_json
    from worldmodel.checkpoints.loading import resolve_device

    options = options.resolved()
    resolve_device(options.device)
    out = Path(options.out)
    kept = out / "rows.jsonl"
    rows = []
    for row in measure_all(options, kept):
        rows.append(row)
        print(
            f"{row.size:7s} horizon {row.horizon}: baseline {row.baseline_s:.3f} s, exact "
            f"{row.ratio_exact:.2f}x, bf16 {row.ratio_bf16:.2f}x, difference "
            f"{row.max_abs_diff:.1e}",
            flush=True,
        )
    peaks, same = matmul_peaks(options.device), asdict(equal_energy(options))
    print("equal energy:", json.dumps(same))
    summary = {
        "rows": [asdict(row) for row in rows],
        "matmul_flops": peaks,
        "equal_energy": same,
        "device": device_name(options.device),
        "threads": torch.get_num_threads(),
    }
    write_json(out / "summary.json", summary)
    bars = [(f"{row.size}\nH={row.horizon}", row.ratio_exact, row.ratio_bf16) for row in rows]
    plot(bars, out / "planning.png")
    kept.unlink(missing_ok=True)  # another run measures again
    print(out / "summary.json")
    return 0
