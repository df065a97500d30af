"""`worldmodel doctor`: what this machine has, what it lacks, and what to install."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from planning.doctor_options import DoctorOptions

Options = DoctorOptions


def run(options: DoctorOptions) -> int:
    """Print one line per check, or all checks as JSON.

    Returns:
        0, or 1 if something is missing that is not optional.
    """
    from planning.apps.doctor import examine
    from worldmodel.atomic_io import write_json

    checks = []
    for check in examine(options):
        if not options.json:
            print(check.line(), flush=True)
        checks.append(check)
    missing = [check.name for check in checks if check.status == "missing"]
    summary = {"missing": missing, "checks": [asdict(check) for check in checks]}
    if options.json:
        print(json.dumps(summary, indent=2))
    else:
        print(f"missing: {', '.join(missing)}" if missing else "nothing is missing")
    if options.out:
        write_json(Path(options.out) / "summary.json", summary)
    return 1 if missing else 0
