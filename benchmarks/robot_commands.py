"""Drive random, extreme and NaN commands through the safety layer over libfranka's protocol.

Each finished chunk is a line of a JSONL file, so a killed run resumes. While the arm moves, a
thread computes from the measured joints, about 100 times per second, how far flange and fingertips
are outside the boxes (without the targets' margin).
"""

from __future__ import annotations

import multiprocessing
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from json_lines import append_line

from envs.errors import EnvError
from envs.twin.twin import Twin
from robot.errors import RobotError
from robot.franka.arm import FrankaArm, FrankaConfig, WatchdogConfig
from robot.kinematics import Kinematics, flange_pose
from robot.pose import matrix_to_euler, turn_between
from robot.safety.layer import SafeArm, SafetyConfig, outside_m, target_outside_m
from worldmodel.atomic_io import read_json_lines

CHUNK = 100
RESET_EVERY = 5
"""Number of chunks after which the arm is reset to a start pose."""
LIMITS = SafetyConfig(max_state_age_s=2.0)
PATIENT = WatchdogConfig(planner_s=10.0, frame_s=10.0, state_s=10.0, kill_s=20.0)
"""Generous ages, since the simulated arm's server shares its processor and may stall for seconds;
the benchmark of faults uses a real arm's ages."""
LOOK_S = 0.008


def drive_config(address: str) -> FrankaConfig:
    """Return a fast configuration: three times the default speed, twice its acceleration."""
    return FrankaConfig(
        address=address,
        realtime=False,
        max_speed_m_s=0.3,
        dynamics=0.4,
        max_torque_nm=LIMITS.max_torque_nm,
        max_force_n=LIMITS.max_force_n,
        gripper_speed_m_s=0.2,
        connect_timeout_s=30.0,
        motion_timeout_s=60.0,
    )


def flange_state(q: np.ndarray) -> np.ndarray:
    """Return the flange state [7] at the measured joints."""
    pose = flange_pose(q)
    return np.concatenate([pose[:3, 3], matrix_to_euler(pose[:3, :3]), [0.0]])


def angle_rad(angles: np.ndarray, next_angles: np.ndarray) -> float:
    """Return the angle of the rotation between two orientations, given as Euler angles [rad]."""
    return float(np.linalg.norm(turn_between(angles, next_angles)))


def orders(rng: np.random.Generator, count: int) -> list[tuple[str, Any]]:
    """Draw commands by kind: `pose` is absolute, the others are DROID deltas [7]."""
    found: list[tuple[str, Any]] = []
    while len(found) < count:
        kind = rng.choice(
            ["small", "large", "huge", "not finite", "corner", "shape", "pose", "turn"],
            p=[0.22, 0.1, 0.15, 0.26, 0.07, 0.06, 0.09, 0.05],
        )
        action: Any = rng.normal(0, 0.02, 7)
        times = 1
        if kind == "large":
            action = rng.uniform(-0.3, 0.3, 7)
        elif kind == "huge":
            action = rng.normal(0, 10 ** rng.uniform(0, 6), 7)
        elif kind == "not finite":
            action[rng.integers(7)] = rng.choice([np.nan, np.inf, -np.inf])
        elif kind == "corner":  # repeatedly into a corner of the box, with rotation
            action = np.concatenate([rng.choice([-1, 0, 1], 3) * 0.075, rng.normal(0, 0.1, 4)])
            times = int(rng.integers(1, 9))
        elif kind == "turn":  # equal Euler angles add up to more than each of them
            action = np.concatenate([np.zeros(3), rng.choice([-1, 1], 3) * 0.15, [0.0]])
        elif kind == "shape":
            action = np.zeros(int(rng.choice([0, 3, 6, 8])))
        elif kind == "pose":
            action = rng.normal(0, 1, 7)
        found += [(str(kind), action)] * times
    return found[:count]


class Observer:
    """Observes the arm's position in a thread."""

    def __init__(self, arm: FrankaArm) -> None:
        self.arm = arm
        self.outside_m, self.past_target_box_m, self.looks = 0.0, 0.0, 0
        self._on = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last = -1.0
        while self._on:
            now = self.arm.link.read()
            if now.time_s != last:
                last = now.time_s
                workcell = flange_state(now.q)
                out = float(np.abs(outside_m(LIMITS, workcell)).max())
                past = float(np.abs(target_outside_m(LIMITS, workcell)).max())
                self.outside_m, self.looks = max(self.outside_m, out), self.looks + 1
                self.past_target_box_m = max(self.past_target_box_m, past)
            time.sleep(LOOK_S)

    def end(self) -> None:
        """Stop looking."""
        self._on = False
        self._thread.join()


class CountedLog:
    """A log file that counts its lines."""

    def __init__(self, path: Path) -> None:
        self.file, self.rows = path.open("w", encoding="utf-8"), 0

    def write(self, text: str) -> None:
        """Append a line."""
        self.file.write(text)
        self.rows += 1

    def flush(self) -> None:
        """To disk."""
        self.file.flush()


@dataclass
class Chunk:
    """Statistics of a chunk of commands."""

    index: int
    commands: int = 0
    driven: int = 0
    """Number of commands sent to the arm."""
    refused: int = 0
    logged: int = 0
    """Number of commands with at least one line in the log."""
    looks: int = 0
    """Number of observations of the arm's pose."""
    arm_outside_m: float = 0.0
    margin_used_m: float = 0.0
    """Maximum distance of the arm outside the targets' box, which is the smaller one [m]."""
    target_outside_m: float = 0.0
    step_m: float = 0.0
    turn_rad: float = 0.0
    """Maximum angle of a sent rotation [rad]."""
    moved_m: float = 0.0
    """Maximum measured distance along an axis in one command [m]."""
    turned_rad: float = 0.0
    """Maximum measured angle of the rotation in one command [rad]."""
    seconds: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    """Number of commands by reason of the safety layer."""
    stops: Counter[str] = field(default_factory=Counter)
    """Counts of recovered stops by the first words of their messages."""
    renewed: int = 0
    """Number of restarts of the simulated arm."""

    def add(self, seen: Observer) -> None:
        """Add the observations of an observer."""
        self.looks += seen.looks
        self.arm_outside_m = max(self.arm_outside_m, seen.outside_m)
        self.margin_used_m = max(self.margin_used_m, seen.past_target_box_m)


class Rig:
    """Simulated arm, driver and safety layer."""

    def __init__(self, log: Any) -> None:
        self.twin: Any = None
        self.arm: Any = None
        self.observer: Any = None
        self.log = log

    def begin(self, seed: int) -> None:
        """Restart broken parts and place the arm."""
        if self.arm is None:
            self.end()
            self.twin = Twin("grasp")
            self.twin.reset(seed)
            self.arm = FrankaArm(drive_config(self.twin.address), PATIENT)
        else:
            self.arm.disconnect()
            self.twin.reset(seed)
            self.arm.connect()
        self.observe()

    def observe(self) -> None:
        """Reset the reference pose to the current pose and start to observe."""
        self.safe = SafeArm(self.arm, LIMITS, solver=Kinematics("fr3"), execute=True, log=self.log)
        self.observer = Observer(self.arm)

    def end(self) -> None:
        """Release all resources."""
        if self.observer is not None:
            self.observer.end()
        if self.arm is not None:
            self.arm.close()
        if self.twin is not None:
            self.twin.close()
        self.twin = self.arm = self.observer = None


def short(error: Exception) -> str:
    """Return the kind of a stop, without numbers."""
    text = str(error)
    for name in ("reflex", "newest state", "heartbeat", "took over", "process ended", "not seven"):
        if name in text:
            return name
    return text[:60]


def recover(rig: Rig, chunk: Chunk, seed: int) -> None:
    """Recover after a stop, or restart the simulated arm if that fails."""
    try:
        rig.safe.recover()
    except RobotError:
        chunk.add(rig.observer)
        rig.end()
        rig.begin(seed)
        chunk.renewed += 1


def wait_until_fresh(arm: FrankaArm) -> None:
    """Wait until the simulated arm's state is fresh."""
    until = time.monotonic() + 60.0
    while arm.link.state_age_s > 0.5 and time.monotonic() < until:
        time.sleep(0.02)


def one(rig: Rig, kind: str, action: Any, chunk: Chunk) -> None:
    """Send one command."""
    wait_until_fresh(rig.arm)
    safe, rows = rig.safe, rig.log.rows
    before = flange_state(rig.arm.link.read().q)
    began = time.monotonic()
    chunk.commands += 1
    chunk.kinds[kind] += 1
    try:
        sent = safe.send_pose(action) if kind == "pose" else safe.send(action)
    except RobotError as error:
        chunk.stops[short(error)] += 1
        chunk.driven += 1
        chunk.logged += rig.log.rows > rows
        recover(rig, chunk, chunk.index)
        return
    chunk.logged += rig.log.rows > rows
    if sent.refused:
        chunk.refused += 1
        if any(r.kind in ("arm", "latched", "state") for r in sent.reasons):
            chunk.stops["refused, " + sent.reasons[-1].kind] += 1
            recover(rig, chunk, chunk.index)
        return
    chunk.driven += 1
    chunk.seconds.append(round(time.monotonic() - began, 3))
    after = flange_state(rig.arm.link.read().q)
    out = float(np.abs(target_outside_m(LIMITS, sent.target)).max())
    chunk.target_outside_m = max(chunk.target_outside_m, out)
    chunk.step_m = max(chunk.step_m, float(np.abs(sent.action[:3]).max()))
    chunk.turn_rad = max(chunk.turn_rad, angle_rad(np.zeros(3), sent.action[3:6]))
    chunk.moved_m = max(chunk.moved_m, float(np.abs(after[:3] - before[:3]).max()))
    chunk.turned_rad = max(chunk.turned_rad, angle_rad(before[3:6], after[3:6]))


def run_chunk(rig: Rig, index: int, count: int, shards: int) -> Chunk:
    """Drive one chunk."""
    chunk = Chunk(index)
    if rig.arm is None or index // shards % RESET_EVERY == 0:
        rig.begin(index)
    else:
        rig.observe()
    for kind, action in orders(np.random.default_rng(index), count):
        one(rig, kind, action, chunk)
    rig.observer.end()
    chunk.add(rig.observer)
    chunk.counts = Counter(rig.safe.counts)
    return chunk


def read_chunks(path: Path, count: int) -> list[dict[str, Any]]:
    """Return the finished chunks of this size, without duplicates and incomplete lines."""
    rows: dict[int, dict[str, Any]] = {}
    for row in read_json_lines(path):
        if isinstance(row, dict) and row["index"] * CHUNK < count:
            rows[row["index"]] = row
    return list(rows.values())


def total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the combined statistics of all chunks."""
    seconds = [s for row in rows for s in row["seconds"]]
    summed = {
        name: sum(row[name] for row in rows)
        for name in ("commands", "driven", "refused", "logged", "looks", "renewed")
    }
    most = {
        name: max(row[name] for row in rows)
        for name in (
            "arm_outside_m",
            "margin_used_m",
            "target_outside_m",
            "step_m",
            "turn_rad",
            "moved_m",
            "turned_rad",
        )
    }
    by: dict[str, Counter[str]] = {"kinds": Counter(), "counts": Counter(), "stops": Counter()}
    for row in rows:
        for name, counter in by.items():
            counter.update(row[name])
    return {
        **summed,
        **most,
        "margin_m": LIMITS.margin_m,
        "hundreds": len(rows),
        "hundreds_outside": sum(row["arm_outside_m"] > 0 for row in rows),
        "motion_s_median": statistics.median(seconds),
        **{name: dict(counter.most_common()) for name, counter in by.items()},
    }


def share_commands(count: int, work: Path, processes: int) -> list[dict[str, Any]]:
    """Drive `count` commands in several processes, and return the finished chunks of all runs.

    Args:
        count: Number of commands of all processes.
        work: Folder of finished chunks; those of its chunks.jsonl are not driven again.
        processes: Number of processes, each with its own simulated arm. A process that fails
            leaves its chunks for the next run.
    """
    work.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=drive_commands, args=(count, work, shard, processes))
        for shard in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return read_chunks(work / "chunks.jsonl", count)


def drive_commands(count: int, work: Path, shard: int, shards: int) -> None:
    """Drive every `shards`-th chunk from `shard` on that is not finished."""
    path = work / "chunks.jsonl"
    done = {row["index"] for row in read_chunks(path, count)}
    left = [i for i in range(shard, (count + CHUNK - 1) // CHUNK, shards) if i not in done]
    if not left:
        return
    rig = Rig(CountedLog(work / f"safety-{shard}.jsonl"))
    try:
        for index in left:
            began = time.monotonic()
            try:
                chunk = run_chunk(rig, index, min(CHUNK, count - index * CHUNK), shards)
            except (RobotError, EnvError) as error:
                print(f"chunk {index} is left for the next run: {error}", flush=True)
                rig.end()
                continue
            append_line(path, chunk.__dict__)
            spent = f"{chunk.commands} commands in {time.monotonic() - began:.0f} s"
            outside = f"outside the boxes by {1000 * chunk.arm_outside_m:.2f} mm"
            print(f"chunk {index}: {spent}, {outside}", flush=True)
    finally:
        rig.end()
