"""Driver, watchdog and safety layer over libfranka's own protocol, on the simulated arm.

For each fault: the time from the fault until the arm stands, how far it still went, and what the
person reads. Then thousands of random, extreme and not-a-number commands through the safety layer,
and where the time of a control cycle goes.

    python benchmarks/robot.py [--commands 10000] [--executed 150]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:] = [p for p in sys.path if not p or Path(p).resolve() != HERE]

from envs.twin import Twin  # noqa: E402
from robot.errors import RobotError  # noqa: E402
from robot.franka import FrankaArm, FrankaConfig, WatchdogConfig  # noqa: E402
from robot.kinematics import Kinematics, flange_pose  # noqa: E402
from robot.pose import matrix_to_euler  # noqa: E402
from robot.safety import SafeArm, SafetyConfig, outside_m  # noqa: E402

OUT = HERE / "results" / "robot.json"
PAGE = HERE.parent / "docs" / "robot-faults.md"
FAR = [0.075, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
PLANNER = """
import sys
from robot.franka import FrankaArm, FrankaConfig, WatchdogConfig
if __name__ == "__main__":
    config = FrankaConfig(address=sys.argv[1], realtime=False, max_speed_m_s=0.1, dynamics=0.3,
                          max_torque_nm=100.0, max_force_n=100.0)
    arm = FrankaArm(config, WatchdogConfig(state_s=0.5))
    print("ready", flush=True)
    for way in (1, -1, 1):
        arm.send([0.075 * way, 0, 0, 0, 0, 0, 0])
"""


def config(twin: Twin, **changes: Any) -> FrankaConfig:
    """Slow enough that a fault comes in the middle of a motion."""
    settings: dict[str, Any] = {
        "address": twin.address, "realtime": False, "max_speed_m_s": 0.1, "dynamics": 0.3,
        "max_torque_nm": 100.0, "max_force_n": 100.0, "connect_timeout_s": 10.0,
    }  # fmt: skip
    return FrankaConfig(**(settings | changes))


class Track:
    """Places of the fingertips while something happens, in wall time."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.rows: list[tuple[float, np.ndarray]] = []
        self.on = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while self.on:
            self.rows.append((time.monotonic(), self.twin.info(closed=False)["tcp_m"]))
            time.sleep(0.004)

    def end(self, fault: float) -> dict[str, float]:
        """Time to a stop [s] and the way that was still made [m] after `fault`."""
        self.on = False
        self.thread.join()
        after = [row for row in self.rows if row[0] >= fault]
        last = after[-1][1]
        moving = [t for t, place in after if np.linalg.norm(place - last) > 1e-3]
        return {
            "stop_s": round((moving[-1] - fault) if moving else 0.0, 3),
            "left_m": round(float(np.linalg.norm(after[0][1] - last)), 4),
        }


def in_a_motion(
    twin: Twin, arm: FrankaArm, cause: Callable[[], None], delay_s: float = 0.3
) -> dict[str, Any]:
    """Cause a fault while the arm moves."""
    track, when = Track(twin), []

    def later() -> None:
        time.sleep(delay_s)
        when.append(time.monotonic())
        cause()

    thread = threading.Thread(target=later)
    thread.start()
    message = ""
    try:
        arm.send(FAR)
    except RobotError as error:
        message = str(error)
    thread.join()
    time.sleep(1.0)
    return {**track.end(when[0]), "message": message}


def arm_faults() -> dict[str, dict[str, Any]]:
    """Faults of the camera, the arm and its server."""
    rows: dict[str, dict[str, Any]] = {}
    with Twin("grasp") as twin:
        for name in ("camera frozen or unplugged", "stop called", "reflex", "driver killed"):
            twin.reset(1)
            with FrankaArm(config(twin), WatchdogConfig(state_s=0.5)) as arm:
                causes: dict[str, Callable[[], None]] = {
                    "camera frozen or unplugged": lambda arm=arm: arm.link.saw_frame(
                        time.monotonic()
                    ),
                    "stop called": lambda arm=arm: arm.link.stop("a person pressed stop"),
                    "reflex": twin.order_reflex,
                    "driver killed": lambda arm=arm: os.kill(arm.driver_pid, signal.SIGKILL),
                }
                rows[name] = in_a_motion(twin, arm, causes[name])
        for name, kind in (("planner killed", signal.SIGKILL), ("planner hung", signal.SIGSTOP)):
            twin.reset(1)
            rows[name] = planner_fault(twin, kind)
        twin.reset(1)
        with FrankaArm(config(twin), WatchdogConfig(state_s=0.5)) as arm:
            rows["second client"] = refused(lambda: FrankaArm(config(twin, connect_timeout_s=3.0)))
            rows["NaN action"] = refused(lambda: arm.send([np.nan] * 7))
            far = arm.state().state
            far[:3] = [1.4, 0.0, 0.3]
            rows["out of reach"] = refused(lambda: arm.send_pose(far))
            arm.send([0, 0, 0, 0, 0, 0, 1.0])
            held = arm.state()
            rows["gripper closes on nothing"] = {
                "message": f"holding={held.holding}, {held.gripper_width_m * 1000:.1f} mm apart"
            }
    for name, kind in (("server killed", signal.SIGKILL), ("server frozen", signal.SIGSTOP)):
        with Twin("grasp") as own:
            own.reset(1)
            with FrankaArm(config(own), WatchdogConfig(state_s=0.5)) as arm:
                began = time.monotonic()
                found = in_a_motion(own, arm, lambda own=own, kind=kind: os.kill(own.pid, kind))
                found["told_s"] = round(time.monotonic() - began - 1.3, 2)
                rows[name] = found
            os.kill(own.pid, signal.SIGKILL)
    rows["no server"] = refused(
        lambda: FrankaArm(FrankaConfig(address="127.9.9.9", realtime=False))
    )
    return rows


def refused(act: Callable[[], Any]) -> dict[str, Any]:
    """What is said, and after how long."""
    began, message = time.monotonic(), "nothing: it went through"
    try:
        act()
    except RobotError as error:
        message = str(error)
    return {"told_s": round(time.monotonic() - began, 3), "message": message}


def planner_fault(twin: Twin, kind: signal.Signals) -> dict[str, Any]:
    """The process that plans is killed or frozen in the middle of a motion."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "planner.py"
        script.write_text(PLANNER, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, str(script), twin.address], stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        start = twin.info(closed=False)["tcp_m"]
        while np.linalg.norm(twin.info(closed=False)["tcp_m"] - start) < 0.015:
            time.sleep(0.005)
        track = Track(twin)
        time.sleep(0.05)
        fault = time.monotonic()
        process.send_signal(kind)
        time.sleep(2.0)
        found = track.end(fault)
        process.kill()
        process.wait()
        return {**found, "message": "the watchdog stops the arm and latches"}


def flange_state(q: np.ndarray) -> np.ndarray:
    """Flange state [7] by the measured joints."""
    pose = flange_pose(q)
    return np.concatenate([pose[:3, 3], matrix_to_euler(pose[:3, :3]), [0.0]])


def commands(count: int, executed: int) -> dict[str, Any]:
    """Random, extreme and not-a-number commands; the first `executed` are really driven."""
    rng = np.random.default_rng(0)
    worst_out = worst_step = 0.0
    with Twin("grasp") as twin, tempfile.TemporaryDirectory() as folder:
        twin.reset(2)
        limits = SafetyConfig(max_state_age_s=1.0)
        drive = config(twin, max_speed_m_s=0.3, dynamics=0.4)
        log = Path(folder) / "log.jsonl"
        with (
            FrankaArm(drive, WatchdogConfig(planner_s=1.0, state_s=1.0)) as arm,
            log.open("w") as f,
        ):
            safe = SafeArm(arm, limits, solver=Kinematics("fr3"), execute=True, log=f)
            seconds, places = [], []
            for i in range(count):
                safe.execute = i < executed
                action = rng.normal(0, rng.choice([0.02, 0.1, 1.0, 1e3]), 7)
                if rng.random() < 0.1:
                    action[rng.integers(7)] = rng.choice([np.nan, np.inf, -np.inf])
                began = time.monotonic()
                sent = safe.send(action)
                if i < executed:
                    seconds.append(time.monotonic() - began)
                    places.append(flange_state(arm.state().q))
                if not sent.refused or "dry run" in sent.reasons:
                    worst_out = max(worst_out, float(np.abs(outside_m(limits, sent.target)).max()))
                    worst_step = max(worst_step, float(np.abs(sent.action[:3]).max()))
            rows = len(log.read_text(encoding="utf-8").splitlines())
            real = max(float(np.abs(outside_m(limits, place)).max()) for place in places)
        return {
            "commands": count, "executed_over_the_protocol": executed, "log_rows": rows,
            "target_outside_m": worst_out, "arm_outside_m": real, "largest_step_m": worst_step,
            "motion_s_median": statistics.median(seconds), "counts": safe.counts,
        }  # fmt: skip


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=10_000)
    parser.add_argument("--executed", type=int, default=150)
    options = parser.parse_args()
    faults = arm_faults()
    for name, row in faults.items():
        print(f"{name:28s} {json.dumps(row)}", flush=True)
    found = commands(options.commands, options.executed)
    print(json.dumps(found))
    OUT.write_text(
        json.dumps({"faults": faults, "commands": found}, indent=1) + "\n", encoding="utf-8"
    )
    write_page(faults, found)
    print(OUT, PAGE, sep="\n")


def write_page(faults: dict[str, dict[str, Any]], found: dict[str, Any]) -> None:
    """Write docs/robot-faults.md."""
    lines = [
        "# Faults, on the simulated arm over libfranka's protocol\n",
        "Written by `python benchmarks/robot.py`; nothing is typed in by hand. **No real arm "
        "was at hand.** The arm moves at 0.1 m/s when the fault comes;\ntimes count from the fault "
        "until the fingertips stay within 1 mm, in wall time on two processor cores.\n",
        "| fault | arm stands after | still went | told after | what the person reads |",
        "|---|---|---|---|---|",
    ]
    for name, row in faults.items():
        stop = f"{row['stop_s']:.2f} s" if "stop_s" in row else "does not move"
        left = f"{1000 * row['left_m']:.0f} mm" if "left_m" in row else ""
        told = f"{row['told_s']:.2f} s" if "told_s" in row else ""
        text = " ".join(row["message"].split())
        lines.append(f"| {name} | {stop} | {left} | {told} | {text} |")
    lines += [
        "\nWhere the server is killed or frozen, the simulated arm stands because its physics "
        "stop; a real arm brakes by itself when its\ncontrol box loses the connection.\n",
        "## Commands through the safety layer\n",
        f"{found['commands']} random, extreme and not-a-number commands, of which the first "
        f"{found['executed_over_the_protocol']} were driven over the protocol.\n",
        "| | |",
        "|---|---|",
        f"| targets outside the boxes | at most {1000 * found['target_outside_m']:.2f} mm |",
        f"| the arm outside the boxes | at most {1000 * found['arm_outside_m']:.2f} mm |",
        f"| largest step on an axis | {found['largest_step_m']:.3f} m |",
        f"| rows in the log | {found['log_rows']} |",
        f"| a driven motion, median | {found['motion_s_median']:.2f} s |\n",
    ]
    PAGE.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
