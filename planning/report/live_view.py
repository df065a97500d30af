"""Live web page of a drive: camera, imagined end, goal, energy, plan and reasons.

It is served from background threads. The control loop only replaces a reference; images are decoded
and compressed in the server's threads when a browser requests them. Only a browser on this machine
that knows the token in the address can read it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from planning.atomic_write import json_text
from planning.drive_log import step_row
from planning.driving import Image, Step
from planning.errors import DriveError
from planning.protocols import SubGoal
from planning.report.page import templates
from planning.report.page_server import HOST, PageServer
from planning.report.plots import short
from planning.report.video import png_bytes
from planning.report.views import skill_facts, skill_title
from planning.skill_record import SkillRecord

MAX_ENERGIES = 1000
"""Number of steps in the page's plot, the newest ones."""
Imagine: TypeAlias = Callable[[NDArray[np.float16], Image], Image]
"""Decodes imagined tokens [N, D] to a picture; the camera image [H, W, 3] gives the colours."""


@dataclass(frozen=True)
class _Imagined:
    """The imagined end of the newest search, decoded when a browser asks for it."""

    count: int
    """Step of the page at which it was imagined, which names the picture."""
    tokens_ND: NDArray[np.float16]
    frame: Image
    imagine: Imagine

    @functools.cached_property
    def png(self) -> bytes:
        """The picture, decoded and compressed once."""
        return png_bytes(self.imagine(self.tokens_ND, self.frame), 1)


class _State:
    """Content of the page; immutable, replaced as a whole."""

    def __init__(self) -> None:
        self.grey = np.full((8, 8, 3), 200, np.uint8)
        self.camera: NDArray[np.uint8] = self.grey
        self.goal: NDArray[np.uint8] = self.grey
        self.step: Step | None = None
        self.name, self.count = "", 0
        self.energies: tuple[float, ...] = ()
        self.first = 0
        """Step of the first of these energies."""
        self.skills: SkillRecord | None = None
        """Newest decision about skills."""
        self.imagined: _Imagined | None = None

    @functools.cached_property
    def camera_png(self) -> bytes:
        """Camera image, compressed once per step."""
        return png_bytes(self.camera, 1)

    @functools.cached_property
    def goal_png(self) -> bytes:
        """Goal image, compressed once per step."""
        return png_bytes(self.goal, 1)

    @property
    def imagined_png(self) -> bytes:
        """Picture of the imagined end; the grey one without any."""
        return png_bytes(self.grey, 1) if self.imagined is None else self.imagined.png

    def json(self) -> str:
        """Return the numbers and texts of the page."""
        row, skills = {} if self.step is None else step_row(self.step), self.skills
        text = "waiting for the first step"
        if self.step is not None:
            text = f"step {self.step.index}, energy {short(row.get('energy'))}"
        found = {
            "count": self.count,
            "goal": self.name,
            "text": text,
            "row": row,
            "energies": list(self.energies),
            "first": self.first,
            "skills": [] if skills is None else _texts(skills),
            "imagined": None if self.imagined is None else self.imagined.count,
        }
        return json_text(found)


def _texts(skills: SkillRecord) -> list[str]:
    """Return the texts of a decision; those of chosen skills begin with their names."""
    return [*([] if skills.chosen else [skill_title(skills)]), *skill_facts(skills)]


class LiveView:
    """Server of the live page; runs until closed.

    Args:
        port: TCP port; 0 uses any free port.
        imagine: Decodes the imagined ends of skills; None shows no picture of them.

    Raises:
        DriveError: The port is not available.
    """

    def __init__(self, port: int = 0, imagine: Imagine | None = None) -> None:
        self.now, self.imagine = _State(), imagine
        self.goals: Sequence[SubGoal] = ()
        self.energies: list[float] = []
        self.skills: SkillRecord | None = None
        self.imagined: _Imagined | None = None
        page = templates().get_template("live.html.j2").render().encode()
        parts: dict[str, Callable[[], tuple[str, bytes]]] = {
            "": lambda: ("text/html; charset=utf-8", page),
            "state.json": lambda: ("application/json", self.now.json().encode()),
            "camera.png": lambda: ("image/png", self.now.camera_png),
            "goal.png": lambda: ("image/png", self.now.goal_png),
            "imagined.png": lambda: ("image/png", self.now.imagined_png),
        }
        try:
            self.server = PageServer(port, parts)
        except (OSError, OverflowError) as error:
            raise DriveError(
                f"The live view cannot use port {port} ({error}): port=0 takes a free one"
            ) from error
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True)
        self.thread.start()
        self.url = f"http://{HOST}:{self.server.server_address[1]}/{self.server.token}/"

    def begin(self, goals: Sequence[SubGoal]) -> None:
        """Start a new episode with these goals."""
        self.goals, self.energies = goals, []
        self.skills = self.imagined = None

    def step(self, step: Step) -> None:
        """Show a step."""
        new = _State()
        new.count, new.step, new.camera = self.now.count + 1, step, step.frame.image
        new.goal, new.name = self.now.goal, self.now.name
        if step.decision is not None:
            self.energies.append(step.decision.energy)
            goal = self.goals[step.decision.sub_goal]
            new.goal, new.name = goal.image, goal.name
            if step.decision.skills is not None:
                self._look(step.decision.skills, step.image, new.count)
        new.skills, new.imagined = self.skills, self.imagined
        new.energies = tuple(self.energies[-MAX_ENERGIES:])
        new.first = len(self.energies) - len(new.energies)
        self.now = new

    def _look(self, skills: SkillRecord, frame: Image, count: int) -> None:
        """Show a new decision about skills; the picture is decoded when a browser asks for it."""
        self.skills, self.imagined = skills, None
        if self.imagine is not None and skills.imagined_ND is not None:
            self.imagined = _Imagined(count, skills.imagined_ND, frame, self.imagine)

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.server.open):
            self.server.end(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
