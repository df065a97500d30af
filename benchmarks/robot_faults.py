"""Measure the reaction to faults of camera, planner, driver, arm and server in simulation.

For each fault: the time until the arm is at rest, the distance moved, and the message.
"""

from __future__ import annotations

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

from envs.twin.camera import TwinCamera
from envs.twin.twin import Twin
from planning.apps.franka_workcell import watched_camera
from robot.cameras.camera import OpenCVCamera
from robot.constants import FLANGE_TO_TCP_M
from robot.errors import CameraError, RobotError
from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig
from robot.safety.limits import TIP_OFFSETS_M

ROOT = Path(__file__).resolve().parent.parent
WATCH = WatchdogConfig(state_s=0.5)
"""A real arm's ages, except that the simulated arm's clock may stall briefly on a busy machine."""
FAR = [0.075, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
PLANNER = """
import sys
from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig
if __name__ == "__main__":
    config = FrankaConfig(address=sys.argv[1], realtime=False, max_speed_m_s=0.1, dynamics=0.3)
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
        "connect_timeout_s": 10.0,
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


def refused(act: Callable[[], Any]) -> dict[str, Any]:
    """Return the error message of a call, and its delay."""
    began, message = time.monotonic(), "nothing: it went through"
    try:
        act()
    except RobotError as error:
        message = str(error)
    return {"told_s": round(time.monotonic() - began, 3), "message": message}


def camera_faults(twin: Twin) -> dict[str, dict[str, Any]]:
    """Make a network camera's process repeat an image, freeze, or die."""
    rows: dict[str, dict[str, Any]] = {}
    for name in ("camera repeats its picture", "camera's process frozen", "camera unplugged"):
        twin.reset(1)
        with TwinCamera(twin, 1) as stream, FrankaArm(config(twin), WATCH) as arm:
            causes: dict[str, Callable[[], None]] = {
                "camera repeats its picture": stream.freeze,
                "camera's process frozen": lambda s=stream: os.kill(s.pid, signal.SIGSTOP),
                "camera unplugged": lambda s=stream: os.kill(s.pid, signal.SIGKILL),
            }
            camera = watched_camera(OpenCVCamera(stream.url), arm)
            time.sleep(1.0)  # wait for frames buffered during opening to pass
            try:
                rows[name] = in_a_motion(twin, arm, causes[name])
                rows[name]["then"] = after_the_fault(camera)
            finally:
                camera.close()
    return rows


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


def arm_faults() -> dict[str, dict[str, Any]]:
    """Measure all faults of the arm, by name."""
    rows: dict[str, dict[str, Any]] = {}
    with Twin("grasp") as twin:
        rows |= camera_faults(twin)
        for name in (
            "stop called",
            "reflex",
            "driver killed",
            "driver frozen",
            "watchdog killed",
            "watchdog frozen",
        ):
            twin.reset(1)
            with FrankaArm(config(twin), WATCH) as arm:
                causes: dict[str, Callable[[], None]] = {
                    "stop called": lambda arm=arm: arm.link.stop("a person pressed stop"),
                    "reflex": twin.order_reflex,
                    "driver killed": lambda arm=arm: os.kill(arm.driver_pid, signal.SIGKILL),
                    "driver frozen": lambda arm=arm: os.kill(arm.driver_pid, signal.SIGSTOP),
                    "watchdog killed": lambda arm=arm: os.kill(arm.watchdog_pid, signal.SIGKILL),
                    "watchdog frozen": lambda arm=arm: os.kill(arm.watchdog_pid, signal.SIGSTOP),
                }
                rows[name] = in_a_motion(twin, arm, causes[name])
        rows["hand hits the table"] = collision(twin)
        for name, kind in (("planner killed", signal.SIGKILL), ("planner hung", signal.SIGSTOP)):
            twin.reset(1)
            rows[name] = planner_fault(twin, kind)
        rows |= requests(twin)
    rows |= server_faults()
    rows["no server"] = refused(
        lambda: FrankaArm(FrankaConfig(address="127.9.9.9", realtime=False))
    )
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


def requests(twin: Twin) -> dict[str, dict[str, Any]]:
    """Measure requests that the arm must refuse."""
    twin.reset(1)
    rows: dict[str, dict[str, Any]] = {}
    with FrankaArm(config(twin), WATCH) as arm:
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
    return rows


def server_faults() -> dict[str, dict[str, Any]]:
    """Kill or freeze the arm's server during a motion."""
    rows: dict[str, dict[str, Any]] = {}
    for name, kind in (("server killed", signal.SIGKILL), ("server frozen", signal.SIGSTOP)):
        with Twin("grasp") as own:
            own.reset(1)
            with FrankaArm(config(own), WATCH) as arm:
                began = time.monotonic()
                found = in_a_motion(own, arm, lambda own=own, kind=kind: os.kill(own.pid, kind))
                found["told_s"] = round(time.monotonic() - began - 1.3, 2)
                rows[name] = found
            os.kill(own.pid, signal.SIGKILL)
    return rows


def planner_fault(twin: Twin, kind: signal.Signals) -> dict[str, Any]:
    """Kill or freeze the planner process during a motion."""
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
