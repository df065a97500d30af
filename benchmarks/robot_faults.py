"""Measure the reaction to faults of camera, planner, driver, watchdog, arm and server.

For each fault: the time until the arm is at rest, the distance moved, and the message. Every fault
is measured several times; each measurement is a line of a JSONL file, so a killed run resumes.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from json_lines import append_line

from envs.twin.camera import TwinCamera
from envs.twin.twin import Twin
from planning.apps.franka_workcell import watched_camera
from robot.cameras.camera import OpenCVCamera
from robot.constants import FLANGE_TO_TCP_M
from robot.errors import CameraError, RobotError
from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig
from robot.safety.limits import TIP_OFFSETS_M
from worldmodel.atomic_io import read_json_lines

ROOT = Path(__file__).resolve().parent.parent
WATCH = WatchdogConfig(state_s=0.5)
"""A real arm's ages, except that the simulated arm's clock may stall briefly on a busy machine."""
SILENT_S = 0.1
"""Silence of its client after which the simulated arm aborts a motion, where the client is what
fails [s]. A real arm aborts after 20 ms; elsewhere the simulated one waits for a busy machine."""
MOST_LOST = 5
"""Number of measurements of a fault that a busy machine may spoil."""
UNDER_WAY_M = 0.015
"""Distance after which a fault occurs [m]; the arm has its full speed by then."""
FAR = [0.075, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
PLANNER = """
import sys
from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig
if __name__ == "__main__":
    config = FrankaConfig(address=sys.argv[1], realtime=False, max_speed_m_s=0.1, dynamics=0.3,
                          connect_timeout_s=60.0, motion_timeout_s=60.0)
    arm = FrankaArm(config, WatchdogConfig(state_s=0.5))
    print("ready", flush=True)
    for way in (1, -1, 1):
        arm.send([0.075 * way, 0, 0, 0, 0, 0, 0])
"""


def config(twin: Twin, **changes: Any) -> FrankaConfig:
    """Return a configuration slow enough for a fault to occur during a motion."""
    settings: dict[str, Any] = {
        "address": twin.address,
        "realtime": False,
        "max_speed_m_s": 0.1,
        "dynamics": 0.3,
        "connect_timeout_s": 60.0,
        "motion_timeout_s": 60.0,
    }
    return FrankaConfig(**(settings | changes))


class Track:
    """Records the fingertip positions over wall time."""

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

    def wait_until_under_way(self) -> None:
        """Wait until the arm has moved some way, or for two minutes at most."""
        until = time.monotonic() + 120.0
        while time.monotonic() < until:
            rows = self.rows[:1] + self.rows[-1:]
            if rows and np.linalg.norm(rows[-1][1] - rows[0][1]) > UNDER_WAY_M:
                return
            time.sleep(0.002)

    def end(self, fault: float) -> dict[str, float]:
        """Return the time to a stop [s] and the distance moved [m] after `fault`."""
        self.on = False
        self.thread.join()
        after = [row for row in self.rows if row[0] >= fault]
        last = after[-1][1]
        moving = [t for t, place in after if np.linalg.norm(place - last) > 1e-3]
        return {
            "stop_s": round((moving[-1] - fault) if moving else 0.0, 3),
            "left_m": round(float(np.linalg.norm(after[0][1] - last)), 4),
        }


def in_a_motion(twin: Twin, arm: FrankaArm, cause: Callable[[], None]) -> dict[str, Any]:
    """Cause a fault while the arm moves."""
    track, when = Track(twin), []

    def later() -> None:
        track.wait_until_under_way()
        when.append(time.monotonic())
        cause()

    thread = threading.Thread(target=later)
    thread.start()
    message = ""
    try:
        arm.send(FAR)
    except RobotError as error:
        message = str(error)
    told = time.monotonic()
    thread.join()
    time.sleep(1.0)
    return {**track.end(when[0]), "told_s": round(told - when[0], 3), "message": message}


def refused(act: Callable[[], Any]) -> dict[str, Any]:
    """Return the error message of a call, and its delay."""
    began, message = time.monotonic(), "nothing: it went through"
    try:
        act()
    except RobotError as error:
        message = str(error)
    return {"told_s": round(time.monotonic() - began, 3), "message": message}


def camera_fault(twin: Twin, cause: Callable[[TwinCamera], None]) -> dict[str, Any]:
    """Make a network camera's process repeat an image, freeze, or die."""
    twin.reset(1)
    with TwinCamera(twin, 1) as stream, FrankaArm(config(twin), WATCH) as arm:
        camera = watched_camera(OpenCVCamera(stream.url), arm)
        time.sleep(1.0)  # wait for frames buffered during opening to pass
        try:
            found = in_a_motion(twin, arm, lambda: cause(stream))
            return found | {"then": after_the_fault(camera)}
        finally:
            camera.close()


def after_the_fault(camera: Any) -> str:
    """Return the error that the control loop would report next."""
    from robot.cameras.camera import CheckedCamera

    checked = CheckedCamera(camera)
    try:
        for _ in range(8):
            checked.read()
            time.sleep(0.1)
    except CameraError as error:
        return str(error)
    return "nothing: the camera is fine"


def arm_fault(twin: Twin, cause: Callable[[FrankaArm], None]) -> dict[str, Any]:
    """Cause a fault of the arm or of one of its processes."""
    twin.reset(1)
    with FrankaArm(config(twin), WATCH) as arm:
        return in_a_motion(twin, arm, lambda: cause(arm))


def driver_fault(kind: signal.Signals) -> dict[str, Any]:
    """Kill or freeze the driver, whose arm then hears nothing and aborts by itself."""
    with Twin("grasp", client_s=SILENT_S) as own:
        return arm_fault(own, lambda arm: os.kill(arm.driver_pid, kind))


def faults(twin: Twin) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return a function for each fault that measures it once."""

    def camera(cause: Callable[[TwinCamera], None]) -> Callable[[], dict[str, Any]]:
        return functools.partial(camera_fault, twin, cause)

    def of_arm(cause: Callable[[FrankaArm], None]) -> Callable[[], dict[str, Any]]:
        return functools.partial(arm_fault, twin, cause)

    kill, freeze = signal.SIGKILL, signal.SIGSTOP
    return {
        "camera repeats its picture": camera(lambda stream: stream.freeze()),
        "camera's process frozen": camera(lambda stream: os.kill(stream.pid, freeze)),
        "camera unplugged": camera(lambda stream: os.kill(stream.pid, kill)),
        "stop called": of_arm(lambda arm: arm.link.stop("a person pressed stop")),
        "stop called without a reason": of_arm(lambda arm: arm.link.stop("")),
        "reflex": of_arm(lambda _: twin.order_reflex()),
        "driver killed": functools.partial(driver_fault, kill),
        "driver frozen": functools.partial(driver_fault, freeze),
        "watchdog killed": of_arm(lambda arm: os.kill(arm.watchdog_pid, kill)),
        "watchdog frozen": of_arm(lambda arm: os.kill(arm.watchdog_pid, freeze)),
        "hand hits the table": functools.partial(collision, twin),
        "planner killed": functools.partial(planner_fault, twin, kill),
        "planner hung": functools.partial(planner_fault, twin, freeze),
        "server killed": functools.partial(server_fault, kill),
        "server frozen": functools.partial(server_fault, freeze),
        "no server": lambda: refused(
            lambda: FrankaArm(FrankaConfig(address="127.9.9.9", realtime=False))
        ),
        **requests(twin),
    }


def measure_faults(path: Path, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Measure every fault `repeats` times, except for what a file of earlier measurements holds.

    Args:
        path: JSONL file of measurements, extended by this run.
        repeats: Number of measurements of each fault.

    Returns:
        Measurements by fault.
    """
    with Twin("grasp") as twin:
        for name, measure in faults(twin).items():
            lost = 0
            while len(read_faults(path).get(name, [])) < repeats:
                try:
                    row = measure()
                except RobotError as error:  # a busy machine stopped the arm before the fault
                    lost += 1
                    print(f"{name:28s} not measured: {error}", flush=True)
                    if lost > MOST_LOST:
                        raise
                    continue
                print(f"{name:28s} {json.dumps(row)}", flush=True)
                append_line(path, {"fault": name} | row)
    found = read_faults(path)
    return {name: found[name][:repeats] for name in found}


def read_faults(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the measurements of a file by fault."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in read_json_lines(path):
        if isinstance(row, dict):
            rows.setdefault(row.pop("fault"), []).append(row)
    return rows


def collision(twin: Twin) -> dict[str, Any]:
    """Drive the fingers into the table; the fault is the first contact."""
    twin.reset(1)
    with FrankaArm(config(twin), WATCH) as arm:
        target = arm.state().state
        target[:3] = [0.4, -0.15, FLANGE_TO_TCP_M + 0.06]
        arm.send_pose(target)
        target[2] -= 0.08
        track = Track(twin)
        told = refused(lambda: arm.send_pose(target))
        time.sleep(1.0)
        touch = next(t for t, place in track.rows if place[2] < TIP_OFFSETS_M[0, 2] + 5e-4)
        return {**track.end(touch), "message": told["message"]}


def requests(twin: Twin) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return a function for each request that the arm must refuse, and an empty grasp."""

    def ask(act: Callable[[FrankaArm], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        def measure() -> dict[str, Any]:
            twin.reset(1)
            with FrankaArm(config(twin), WATCH) as arm:
                return act(arm)

        return measure

    def out_of_reach(arm: FrankaArm) -> dict[str, Any]:
        far = arm.state().state
        far[:3] = [1.4, 0.0, 0.3]
        return refused(lambda: arm.send_pose(far))

    def empty_grasp(arm: FrankaArm) -> dict[str, Any]:
        arm.send([0, 0, 0, 0, 0, 0, 1.0])
        held = arm.state()
        mm = held.gripper_width_m * 1000
        return {"message": f"holding={held.holding}, {mm:.1f} mm apart"}

    return {
        "second client": ask(
            lambda _: refused(lambda: FrankaArm(config(twin, connect_timeout_s=3.0)))
        ),
        "NaN action": ask(lambda arm: refused(lambda: arm.send([np.nan] * 7))),
        "out of reach": ask(out_of_reach),
        "gripper closes on nothing": ask(empty_grasp),
    }


def server_fault(kind: signal.Signals) -> dict[str, Any]:
    """Kill or freeze the arm's server during a motion."""
    with Twin("grasp") as own:
        found = arm_fault(own, lambda _: os.kill(own.pid, kind))
        os.kill(own.pid, signal.SIGKILL)
        return found


def planner_fault(twin: Twin, kind: signal.Signals) -> dict[str, Any]:
    """Kill or freeze the planner process during a motion."""
    twin.reset(1)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "planner.py"
        script.write_text(PLANNER, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, str(script), twin.address],
            stdout=subprocess.PIPE,
            text=True,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            track = Track(twin)
            track.wait_until_under_way()
            fault = time.monotonic()
            process.send_signal(kind)
            time.sleep(2.0)
            found = track.end(fault)
        finally:
            process.kill()
            process.wait()
        return {**found, "message": "the watchdog stops the arm and latches"}
