"""Check what `benchmarks/gpu.sh` needs, and print the table of what it measured.

python benchmarks/gpu_report.py check OUT [DEVICE]   # exits with a message if something is missing
python benchmarks/gpu_report.py table OUT
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FREE_BYTES = 30e9
"""Space for the data, the checkpoints of the published predictor and stored features."""


def problems(out: Path, device: str) -> Iterator[str]:
    """Yield what is missing on this machine, with the fix."""
    for program in ("worldmodel", "torchrun", "timeout"):
        if shutil.which(program) is None:
            yield f"`{program}` is not on PATH: activate the environment that worldmodel is in"
    for module in ("torch", "mujoco", "av", "gymnasium", "h5py", "pytest"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            yield f"{module} cannot be imported ({error}): pip install '.[dev]'"
            return
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        yield "torch finds no CUDA device: this script is for a machine with one"
    try:
        import envs

        env = envs.make("reach")
        env.reset(seed=0)
        env.close()
    except Exception as error:  # noqa: BLE001 - any failure to render is one that stops the run
        yield f"MuJoCo cannot render: {error}"
    free = shutil.disk_usage(out).free
    if free < FREE_BYTES:
        yield f"{out} has {free / 1e9:.0f} GB free; needed: {FREE_BYTES / 1e9:.0f} GB"


def check(out: Path, device: str) -> None:
    """Write the device's name and number, or exit with the list of problems."""
    out.mkdir(parents=True, exist_ok=True)
    found = list(problems(out, device))
    if found:
        sys.exit("\n".join(["missing:", *found]))
    import torch

    cuda = device == "cuda"
    name = torch.cuda.get_device_name() if cuda else "cpu"
    count = torch.cuda.device_count() if cuda else 0
    (out / "device.txt").write_text(f"{name}, torch {torch.__version__}\n", encoding="utf-8")
    (out / "devices.txt").write_text(f"{count}\n", encoding="utf-8")


def _read(file: Path) -> Any:
    """Return the content of a JSON file; None if it is missing or torn."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _last_row(file: Path) -> dict[str, Any]:
    """Return the last row of a JSONL file that has a pace."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return next((row for row in reversed(rows) if row.get("samples_per_s")), {})


def number(value: object, form: str = ".3g", unit: str = "") -> str:
    """Format a number; `-` if it is missing."""
    return f"{value:{form}}{unit}" if isinstance(value, int | float) else "-"


def agreement_lines(out: Path) -> Iterator[str]:
    """Yield the largest differences from the golden arrays in every precision."""
    for file in sorted(out.glob("agreement_*.json")):
        row = _read(file)
        if row:
            yield (
                f"agreement {row['precision']:8s} {len(row['arrays'])} arrays, largest difference "
                f"{number(row['largest'], '.1e')}, {number(row.get('share'), '.1e')} of the norm, "
                f"{len(row['failed'])} failed"
            )


def encoder_lines(out: Path) -> Iterator[str]:
    """Yield a line per encoder, precision and input."""
    for row in (_read(out / "encoder.json") or {}).get("rows", []):
        yield (
            f"encoder {row['preset']:10s} {row['precision']:8s} {row['input']:12s} "
            f"{number(row['frames_per_s'], '.1f')} frames/s, {number(row['tflops'], '.1f')} "
            f"TFLOP/s, {number(row['share_of_peak'], '.0%')} of the measured peak"
        )


def kernel_lines(out: Path) -> Iterator[str]:
    """Yield a line per operator."""
    for row in (_read(out / "kernels.json") or {}).get("rows", []):
        if "error" in row:
            yield f"{row['name']:40s} {row['error'][:90]}"
            continue
        figures = [number(row["ms"], ".3g", " ms")]
        figures += [number(row.get("gb_per_s"), ".0f", " GB/s")] if "gb_per_s" in row else []
        figures += [number(row.get("tflops"), ".0f", " TFLOP/s")] if "tflops" in row else []
        if "samples_per_s" in row:
            figures += [number(row["samples_per_s"], ".3g", " samples/s")]
            figures += [number(row["peak_gb"], ".1f", " GB")]
        share = row.get("share_tflops", row.get("share_gb_per_s"))
        yield f"{row['name']:40s} {', '.join(figures)}, {number(share, '.0%')} of the measured peak"


def planning_lines(out: Path) -> Iterator[str]:
    """Yield a line per horizon."""
    for folder in sorted(out.glob("planning_*")):
        for row in (_read(folder / "summary.json") or {}).get("rows", []):
            yield (
                f"planning {row['size']} horizon {row['horizon']}, {row['samples']} x "
                f"{row['iterations']}: published loop {number(row['baseline_s'])} s, ours "
                f"{number(row['exact_s'])} s, bf16 {number(row['bf16_s'])} s, "
                f"compiled {number(row.get('compiled_s'))} s, largest difference "
                f"{number(row['max_abs_diff'], '.0e')}"
            )


def training_lines(out: Path) -> Iterator[str]:
    """Yield the last pace of every training run."""
    for file in sorted(out.glob("*/metrics.jsonl")):
        row = _last_row(file)
        yield (
            f"{file.parent.name:24s} step {row.get('step', '-')}, "
            f"{number(row.get('samples_per_s'))} samples/s, waiting for data "
            f"{number(row.get('data_wait'), '.0%')}"
        )


def feature_lines(out: Path) -> Iterator[str]:
    """Yield frames per second of stored features, start-up included."""
    for folder in sorted(out.glob("features_*")):
        row, file = _read(folder / "summary.json"), out / f"{folder.name}.seconds"
        if row and file.is_file():
            seconds = sum(float(line) for line in file.read_text(encoding="utf-8").split())
            yield f"{folder.name:24s} {row['frames']} frames in {seconds:.0f} s"


def eval_lines(out: Path) -> Iterator[str]:
    """Yield successes and pace of every evaluation."""
    for folder in sorted(out.glob("eval_*")):
        row = _read(folder / "summary.json")
        if row:
            pace = row.get("seconds_per_decision") or row["seconds_per_action"]
            yield (
                f"{folder.name:32s} {row['successes']}/{row['episodes']}, "
                f"{number(pace.get('median'))} s/decision"
            )


def probe_lines(out: Path) -> Iterator[str]:
    """Yield the latent probes of every model."""
    names = ("object_encoded_m", "object_predicted_m", "loss_true", "loss_copy", "loss_shuffled")
    for folder in sorted(out.glob("probes_*")):
        row = _read(folder / "summary.json")
        if row:
            yield f"{folder.name:26s} " + " ".join(f"{n}={number(row.get(n))}" for n in names)


def pretraining_lines(out: Path) -> Iterator[str]:
    """Yield the last validation of pretraining."""
    names = ("val_masked_short", "val_masked_long", "val_mean", "feature_std", "effective_rank")
    last = (_read(out / "pretrain" / "summary.json") or {}).get("last")
    if last:
        yield "pretraining: " + " ".join(f"{n}={number(last.get(n))}" for n in names)


PARTS: tuple[Callable[[Path], Iterator[str]], ...] = (
    agreement_lines,
    encoder_lines,
    kernel_lines,
    planning_lines,
    feature_lines,
    training_lines,
    pretraining_lines,
    probe_lines,
    eval_lines,
)


def table(out: Path) -> None:
    """Print what has been measured so far."""
    device = out / "device.txt"
    print("device:", device.read_text(encoding="utf-8").strip() if device.is_file() else "-")
    for part in PARTS:
        for line in part(out):
            print(line)


def main() -> None:
    """Run the part that the first word names."""
    word, folder, *rest = sys.argv[1:]
    if word == "check":
        check(Path(folder), rest[0] if rest else "cuda")
    elif word == "table":
        table(Path(folder))
    else:
        sys.exit(f"{word!r} is unknown: check, table")


if __name__ == "__main__":
    main()
