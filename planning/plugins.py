"""Extension points: implementations by users, from installed packages or as `module:Class`.

An option such as `robot=` takes the name of one of our own implementations, a name that an
installed package registers as an entry point, or `module:Class` of the user's own module, which may
lie in the current folder. These values come from the command line and from the user's configuration
only: no data set, checkpoint or log names code.

A package registers an implementation in its pyproject.toml:

    [project.entry-points."worldmodel.robots"]
    my_arm = "my_package.arm:MyArm"

This module imports no implementation by itself, and neither torch nor NumPy.
"""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from planning.errors import PlanError

OWN_SOURCE = "worldmodel"
MAY_BE_EMPTY = ("environment", "reader", "task")
"""Kinds of which an option may name none."""
REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""`module:Class`, or `module:function` that returns an instance."""
GYMNASIUM_ID = re.compile(r"([\w.]+:)?([\w-]+/)?[\w-]+-v\d+")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of implementation."""

    option: str
    """Where a user names one."""
    own: dict[str, str]
    """Our own implementations: name -> `module:attribute`, as in an entry point."""


KINDS = {
    "camera": Kind(
        option="camera= of drive, capture-goal, check-view and calibrate axes",
        own={
            "opencv": "robot.cameras.camera:OpenCVCamera",
            "recording": "robot.cameras.camera:SequenceCamera",
            "realsense": "robot.cameras.realsense:RealSenseCamera",
            "zed": "robot.cameras.zed:ZedCamera",
            "side_by_side": "robot.cameras.zed:open_side_by_side",
            "lerobot": "robot.cameras.lerobot_camera:LeRobotCamera",
        },
    ),
    "encoder": Kind(
        option="encoder= of train and data prepare, model= of features; after + of a world model",
        own={
            "video": "worldmodel.models.frame_encoder:VideoEncoder",
            "transformers": "worldmodel.models.transformers_encoder:TransformersEncoder",
        },
    ),
    "environment": Kind(
        option="environment= of eval, collect, drive, capture-goal, check-view and calibrate axes",
        own={"fetch_push": "envs.fetch:FetchPush", "fetch_pick_place": "envs.fetch:FetchPickPlace"},
    ),
    "gripper": Kind(
        option="gripper= of drive, capture-goal, check-view and calibrate axes with robot=franka",
        own={
            "franka": "robot.franka.gripper:GripperWorker",
            "robotiq": "robot.grippers.robotiq:RobotiqGripper",
        },
    ),
    "optimiser": Kind(
        option="optimiser= of eval, plan, drive and demo",
        own={
            "cem": "planning.solvers.cem:CEM",
            "icem": "planning.solvers.icem:ICEM",
            "mppi": "planning.solvers.mppi:MPPI",
            "gradient": "planning.solvers.gradient:Gradient",
            "nevergrad": "planning.solvers.nevergrad:Nevergrad",
        },
    ),
    "reader": Kind(
        option="reader= of data convert",
        own={
            "droid": "worldmodel.data.readers.droid:read_droid",
            "rlds": "worldmodel.data.readers.rlds:read_shard",
            "lerobot": "worldmodel.data.readers.lerobot:read_lerobot",
        },
    ),
    "robot": Kind(
        option="robot= of drive, capture-goal, check-view and calibrate axes",
        own={
            "franka": "planning.apps.franka_workcell:FrankaWorkcell",
            "twin": "planning.apps.franka_workcell:TwinWorkcell",
            "mujoco": "planning.apps.workcell:MujocoWorkcell",
            "fake": "planning.apps.workcell:FakeWorkcell",
        },
    ),
    "skill": Kind(
        option="skills= of eval, drive, demo and plan",
        own={
            "push": "planning.skills.motions:PUSH",
            "pick_place": "planning.skills.motions:PICK_PLACE",
            "regrasp": "planning.skills.motions:REGRASP",
        },
    ),
    "task": Kind(
        option="task= of eval and drive, in the table's scene",
        own=dict.fromkeys(
            (
                "reach",
                "grasp",
                "reach_with_object",
                "pick_place",
                "push",
                "push_pose",
                "two_objects",
                "over_wall",
                "sort",
            ),
            "envs.tasks:TASKS",
        ),
    ),
}
"""Kinds by name; the entry points of a kind are in the group `worldmodel.<kind>s`."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A registered implementation; it is imported only by `load`."""

    kind: str
    name: str
    target: str
    """`module:attribute`."""
    source: str
    """Distribution that registers it."""


def group_of(kind: str) -> str:
    """Return the entry point group of a kind."""
    return f"worldmodel.{kind}s"


def registered(kind: str) -> dict[str, Plugin]:
    """Return our own implementations and those of installed packages, by name.

    A package cannot replace one of our own names, nor one that another package has registered.
    """
    own = KINDS[kind].own
    found = {
        name: Plugin(kind=kind, name=name, target=target, source=OWN_SOURCE)
        for name, target in own.items()
    }
    for entry in sorted(entry_points(group=group_of(kind)), key=lambda e: (_source(e), e.name)):
        plugin = Plugin(kind=kind, name=entry.name, target=entry.value, source=_source(entry))
        found.setdefault(entry.name, plugin)
    return found


def _source(entry: EntryPoint) -> str:
    return "unknown" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def is_own(kind: str, name: str) -> bool:
    """Return whether a name is one of our own implementations, without looking at packages."""
    return name in KINDS[kind].own


def is_reference(text: str) -> bool:
    """Return whether a text has the form `module:Class`."""
    return REFERENCE.fullmatch(text) is not None


def is_gymnasium_id(text: str) -> bool:
    """Return whether a text has the form of a Gymnasium id, such as `FetchPush-v4`."""
    return GYMNASIUM_ID.fullmatch(text) is not None


def check_name(option: str, kind: str, name: str) -> None:
    """Check that an option names a registered implementation or has the form `module:Class`.

    Raises:
        PlanError: It does not; the message lists the registered names.
    """
    if is_own(kind, name) or is_reference(name) or name in registered(kind):
        return
    if kind == "environment" and is_gymnasium_id(name):
        return
    if kind in MAY_BE_EMPTY and not name:
        return
    raise PlanError(
        f"{option}={name!r} is not available. Choose one of: {', '.join(registered(kind))}; or "
        "give your own as module:Class."
    )


def load(kind: str, name: str) -> object:
    """Import the implementation that a user has named.

    Args:
        kind: Name in `KINDS`.
        name: Registered name, or `module:Class`; the module may lie in the current folder.

    Raises:
        PlanError: There is no such name, or its import fails; the message has the reason.
    """
    found = registered(kind).get(name)
    if found is None and not is_reference(name):
        check_name(kind, kind, name)
    target = name if found is None else found.target
    if found is None and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that no file there hides a package
    return _import(f"The {kind} {name}", target)


def _import(what: str, target: str) -> object:
    """Import `module:attribute`.

    Raises:
        PlanError: The import fails, whatever the module's own error is.
    """
    module, _, attribute = target.partition(":")
    try:
        value: object = importlib.import_module(module)
        for part in attribute.split(".") if attribute else ():
            value = getattr(value, part)
    except (Exception, SystemExit) as error:  # a user's module can raise anything
        raise PlanError(
            f"{what} cannot be loaded from {target} ({type(error).__name__}: {error}). Fix the "
            "module, or check its name and the current folder."
        ) from error
    return value


def problem_of(plugin: Plugin) -> str:
    """Import an implementation; return why that fails, or an empty text."""
    try:
        _import(f"The {plugin.kind} {plugin.name}", plugin.target)
    except PlanError as error:
        return str(error)
    return ""
