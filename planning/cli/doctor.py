"""`worldmodel doctor`: what this machine has, what it lacks, and what to install."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from planning.doctor_options import DoctorOptions

Options = DoctorOptions


def run(options: DoctorOptions) -> int:
    """Print one line per check.

    Returns:
        0, or 1 if something is missing that is not optional.
    """
    from planning.apps.doctor import examine
    from worldmodel.atomic_io import write_json

    checks = []
    for check in examine(options):
        print(check.line(), flush=True)
        checks.append(check)
    missing = [check.name for check in checks if check.status == "missing"]
    print(f"missing: {', '.join(missing)}" if missing else "nothing is missing")
    if options.out:
        rows = [asdict(check) for check in checks]
        write_json(Path(options.out) / "summary.json", {"missing": missing, "checks": rows})
    return 1 if missing else 0
