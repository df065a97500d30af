"""Measure plans over a server on loopback: latency, jitter, several clients, and lost servers.

    python benchmarks/serve.py [requests=10000] [clients=4] [openpi=PYTHON] [only=latency|lost]

`openpi=` is a Python interpreter with openpi-client, whose own client is timed as well. Results go
to benchmarks/results/serve.json, and the tables of docs/serve.md are made from them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from option_words import read_names, read_words
from page_blocks import fill_blocks, markdown_table

from planning.agent import PlanningAgent
from planning.apps import drive as driving
from planning.apps.policies import open_policy
from planning.apps.workcell import Workcell
from planning.arm_options import DriveOptions
from planning.errors import PlanningError
from planning.goals import GoalPicture
from planning.options import SceneOptions
from planning.planner_options import GoalPlannerOptions
from planning.protocols import Agent
from planning.remote.policy import RemoteAgent, RemotePolicy
from planning.serve_options import RemoteOptions
from planning.workcell_options import MotionOptions, WorkcellOptions
from robot.arm import ArmSpec
from robot.errors import RobotError
from worldmodel import load_world_model
from worldmodel.checkpoints.io import save
from worldmodel.models.world_model import WorldModel

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "results" / "serve.json"
PAGE = ROOT / "docs" / "serve.md"
PARTS = ["latency", "lost"]
CHEAP = {"samples": 8, "iterations": 1, "elites": 4, "stretch": 1}
WORDS = [*(f"{name}={value}" for name, value in CHEAP.items()), "gate_m=0"]
STATE = np.array([0.5, 0.0, 0.28, 3.1416, 0.0, -0.7854, 0.0], np.float32)
CHILD = """
import sys, time, json
import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy
client = WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]))
image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
state = np.array(json.loads(sys.argv[3]), np.float32)
seen, times = {"image": image, "state": state, "goal": image[:, ::-1].copy(), "reset": True}, []
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    client.infer(seen)
    times.append(time.perf_counter() - began)
print(json.dumps(times))
"""


def small_model(path: Path) -> str:
    """Write a small world model of random weights, which plans in a few milliseconds."""
    config = load_world_model("default", "cpu").config
    encoder = replace(
        config.encoder,
        image_size=(64, 64),
        patch_size=64,
        embed_dim=32,
        depth=1,
        num_heads=2,
        stem_channels=(8, 16),
    )
    predictor = replace(config.predictor, encoder_dim=32, embed_dim=32, depth=1, num_heads=2)
    observation = replace(config.observation, image_size=(64, 64))
    parts = {"encoder": encoder, "predictor": predictor, "observation": observation}
    save(path, WorldModel.from_config(replace(config, object_head=None, **parts)).eval())
    return str(path)


def frames(count: int = 64) -> list[np.ndarray]:
    """Return camera images; a goal is another one."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(count)]


@contextmanager
def serving(*words: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `worldmodel serve` until the end of the block; yield its address and process."""
    command = [sys.executable, "-m", "worldmodel", "serve", "port=0", "device=cpu", *WORDS, *words]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            while True:
                log.seek(0)
                found = re.search(r"^serving .* at (ws://\S+:\d+);", log.read(), re.MULTILINE)
                if found:
                    break
                assert process.poll() is None, "the server ended"
                time.sleep(0.1)
            yield found[1], process
        finally:
            process.kill()
            process.wait()


def figures(times: list[float]) -> dict[str, float]:
    """Return percentiles [ms] and jitter: the mean change from one request to the next [ms]."""
    ms = 1000 * np.array(times)
    found = {f"p{q}": float(np.percentile(ms, q)) for q in (50, 95, 99)}
    return found | {"jitter": float(np.abs(np.diff(ms)).mean()), "requests": len(times)}


def ask(agent: Agent, requests: int) -> list[float]:
    """Plan again and again toward one goal; return the times [s]."""
    images, times = frames(), []
    goal = GoalPicture("goal", images[-1], STATE, 100_000)
    while len(times) < requests:
        agent.begin([goal], 0)
        for image in images:
            began = time.perf_counter()
            decision = agent.act({"image": image, "state": STATE})
            times.append(time.perf_counter() - began)
            if decision is None or len(times) == requests:
                break
    return times


def in_process(model: str, requests: int) -> dict[str, float]:
    """Time the planner in this process."""
    options = GoalPlannerOptions(gate_m=0.0, **CHEAP)  # type: ignore[arg-type]
    policy = open_policy(model, options, device="cpu").connect(ArmSpec())
    return figures(ask(PlanningAgent(policy), requests))


def connect(url: str) -> RemotePolicy:
    """Connect with time limits that a busy machine does not exceed."""
    policy = RemotePolicy(RemoteOptions(policy=url, heartbeat_s=600, answer_s=600))
    return policy.connect(ArmSpec(), None, lambda _: None)


def served(model: str, requests: int, clients: int, *words: str) -> dict[str, float]:
    """Time requests of clients at once, each with its share of them."""
    share = requests // clients
    with serving(f"model={model}", *words) as (url, _):
        policies = [connect(url) for _ in range(clients)]
        times: list[list[float]] = [[] for _ in policies]

        def work(i: int) -> None:
            times[i] = ask(policies[i].agent(), share)

        began = time.perf_counter()
        threads = [threading.Thread(target=work, args=[i]) for i in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
        for policy in policies:
            policy.close()
    parts = [figures(part) for part in times]
    found = figures([t for part in times for t in part])
    found["jitter"] = statistics.mean(part["jitter"] for part in parts)
    return found | {"clients": clients, "requests_per_s": share * clients / took}


def openpi(model: str, python: str, requests: int) -> dict[str, float]:
    """Time openpi's own client."""
    with serving(f"model={model}") as (url, _):
        port = url.rpartition(":")[2]
        arguments = [python, "-c", CHILD, port, str(requests), json.dumps(STATE.tolist())]
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(arguments, check=True, capture_output=True, text=True, env=clean)
    return figures(json.loads(done.stdout))


class Nobody:
    """An operator who is not there."""

    def tell(self, text: str) -> None:
        """Show nothing."""

    def ask(self, question: str) -> str:
        """Answer nothing."""
        return ""


class Watched:
    """Notes when the server is struck and when the arm was stopped.

    Args:
        strike: What happens to the server, during a motion or while a plan is awaited.
        in_motion: Whether to strike while the arm moves, where it can be told.
    """

    def __init__(self, strike: Callable[[], None], *, in_motion: bool) -> None:
        self.strike, self.in_motion = strike, in_motion
        self.struck = self.rested = 0.0
        self.acts = 0

    def watch(self, cell: Workcell) -> None:
        """Watch a workcell's arm."""
        stop = cell.arm.stop

        def stopped() -> None:
            try:
                stop()
            finally:
                self.rested = self.rested or time.monotonic()

        cell.arm.stop = stopped  # type: ignore[method-assign]
        link = getattr(cell.arm, "link", None)
        if link is not None and self.in_motion:
            threading.Thread(target=self._watch_motion, args=[link], daemon=True).start()

    def _watch_motion(self, link: Any) -> None:
        while not link.moving:
            time.sleep(0.001)
        time.sleep(0.05)
        self.hit()
        while link.moving:
            time.sleep(0.001)
        self.rested = time.monotonic()

    def hit(self) -> None:
        """Strike the server."""
        self.struck = time.monotonic()
        self.strike()


def lost(robot: str, what: str) -> dict[str, Any]:
    """Drive until the server is killed, frozen or slow; return the time to a stopped arm [s]."""
    slow = what == "slow"
    words = ["samples=4000", "iterations=500"] if slow else []
    with serving(*words) as (url, process), tempfile.TemporaryDirectory() as out:

        def strike() -> None:
            if not slow:
                process.send_signal(signal.SIGKILL if what == "killed" else signal.SIGSTOP)

        watched = Watched(strike, in_motion=robot == "twin" and not slow)
        options = DriveOptions(
            workcell=WorkcellOptions(robot=robot, scene=SceneOptions(task="reach")),  # type: ignore[arg-type]
            motion=MotionOptions(execute=True, confirm=False),
            remote=RemoteOptions(policy=url, answer_s=0.4 if slow else 60),
            seed=3,
            out=out,
        )
        real_open, real_act = driving.open_workcell, RemoteAgent.act

        def opened(*arguments: Any) -> Workcell:
            cell = real_open(*arguments)
            watched.watch(cell)
            return cell

        def act(agent: RemoteAgent, observation: Any) -> Any:
            watched.acts += 1
            if not watched.in_motion and watched.acts == (1 if slow else 3):
                watched.hit()
            return real_act(agent, observation)

        driving.open_workcell, RemoteAgent.act = opened, act  # type: ignore[assignment, method-assign]
        why = "it did not end"
        try:
            with Path(os.devnull).open("w") as quiet, redirect_stderr(quiet):
                driving.drive(options, Nobody(), lambda *_: None)
        except (PlanningError, RobotError) as error:
            why = str(error)
        finally:
            driving.open_workcell, RemoteAgent.act = real_open, real_act  # type: ignore[method-assign]
    return {
        "robot": robot,
        "server": what,
        "during": "a motion" if watched.in_motion else "a plan",
        "seconds": watched.rested - watched.struck,
        "message": re.sub(r"ws://127.0.0.1:\d+", "ws://...", why),
    }


def write_page(found: dict[str, Any]) -> None:
    """Fill the tables of docs/serve.md."""
    head = ("planner", "requests", "p50 [ms]", "p95", "p99", "jitter", "requests/s")
    rows = []
    for name, row in found["latency"].items():
        numbers = [f"{row[key]:.1f}" for key in ("p50", "p95", "p99", "jitter")]
        rows.append(
            (name, row["requests"], *numbers, f"{row.get('requests_per_s', 1000 / row['p50']):.0f}")
        )
    stops = [
        (row["robot"], row["server"], row["during"], f"{row['seconds']:.2f}", row["message"])
        for row in found["lost"]
    ]
    blocks = {
        "latency": markdown_table(head, rows),
        "lost": markdown_table(("arm", "server", "during", "stopped after [s]", "message"), stops),
    }
    fill_blocks(PAGE, blocks)


def measure_latency(requests: int, clients: int, python: str = "") -> dict[str, dict[str, float]]:
    """Time the planner in this process, and the same one behind a server.

    The server with one client answers `requests`; the others a quarter of them each.
    """
    part = requests // 4
    with tempfile.TemporaryDirectory() as folder:
        model = small_model(Path(folder) / "small.safetensors")
        batched = ("batch_window_s=0.005", f"max_clients={clients}")
        found = {
            "in this process": in_process(model, part),
            "server, 1 client": served(model, requests, 1),
            f"server, {clients} clients, one after another": served(model, part, clients),
            f"server, {clients} clients, batched": served(model, part, clients, *batched),
        }
        if python:
            found["server, openpi's own client"] = openpi(model, python, part // 10)
    return found


def main(words: list[str]) -> None:
    """Measure, write the results and fill the page."""
    defaults = {"requests": "10000", "clients": "4", "openpi": "", "only": ""}
    given = read_words(words, defaults)
    parts = read_names(given, "only", PARTS) or PARTS
    requests, clients = int(given["requests"]), int(given["clients"])
    found: dict[str, Any] = json.loads(OUT.read_text("utf-8")) if OUT.is_file() else {}
    if "latency" in parts:
        found |= {
            "requests": requests,
            "planner": CHEAP,
            "threads": int(os.environ.get("OMP_NUM_THREADS", 0)),
            "python": platform.python_version(),
            "load": os.getloadavg()[0],
            "latency": measure_latency(requests, clients, given["openpi"]),
        }
        OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if "lost" in parts:
        whats = ("killed", "frozen", "slow")
        found["lost"] = [lost(robot, what) for robot in ("fake", "twin") for what in whats]
        OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if {*PARTS} <= found.keys():
        write_page(found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
