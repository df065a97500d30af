"""Every number of every settings class has a declared range, and the three checkers agree."""

import dataclasses
import importlib
import inspect
import math
import pkgutil
import re
from typing import get_args, get_type_hints

import pytest

import envs
import planning
import planning.ranges
import robot
import robot.errors
import robot.ranges
import worldmodel
import worldmodel.checked
from planning.cli.commands import COMMANDS, load_command
from planning.cli.fields import layout
from planning.errors import PlanError
from planning.solvers.search import Solver
from worldmodel.errors import ConfigError
from worldmodel.models.config import PredictorConfig

NAMES = re.compile(r"(Options|Config|Spec|Settings|Mask|Scaling|Preprocess)$")
UNCHECKED = {"planning.protocols"}
REQUIRED = {
    "predictor": PredictorConfig(use_state=False),
    "image_size": 64,
    "num_blocks": 2,
    "scale": 0.5,
    "patch_size": 16,
    "embed_dim": 64,
    "videos": "v",
    "out": "o.h5",
    "source": "s",
    "benchmark": "intphys",
    "data": "d",
    "annotations": "a",
    "probe": "p",
    "train": "t",
    "val": "v",
    "kind": "droid",
    "settings": "{}",
}
"""Valid values of required fields, and of fields whose default needs them."""


def modules():
    for package in (worldmodel, planning, robot, envs):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__") or found.name in UNCHECKED:
                continue
            try:
                yield importlib.import_module(found.name)
            except ImportError as error:  # an extra that is not installed
                print(f"{found.name}: {error}")


def settings_classes():
    found = {}
    for module in modules():
        for kind in vars(module).values():
            if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
                continue
            own = kind.__module__ == module.__name__ and not inspect.isabstract(kind)
            if own and (NAMES.search(kind.__name__) or issubclass(kind, Solver)):
                found[f"{kind.__module__}.{kind.__qualname__}"] = kind
    return found


CLASSES = settings_classes()


def is_numeric(hint):
    if hint in (int, float):
        return True
    return any(is_numeric(part) for part in get_args(hint) if part is not hint)


def numeric_fields(kind):
    hints = get_type_hints(kind)
    return [item for item in dataclasses.fields(kind) if is_numeric(hints[item.name])]


def test_the_walk_finds_the_known_classes():
    names = {name.rpartition(".")[2] for name in CLASSES}
    assert {"SafetyConfig", "WatchdogConfig", "PlannerConfig", "CEM", "IndexOptions"} <= names
    assert {"LoopConfig", "EncoderConfig", "ActionSpec", "CollectConfig"} <= names
    numbers = sum(len(numeric_fields(kind)) for kind in CLASSES.values())
    print(f"{numbers} numbers in {len(CLASSES)} classes")


@pytest.mark.parametrize("name", CLASSES)
def test_every_number_declares_min_and_max(name):
    for item in numeric_fields(CLASSES[name]):
        assert {"min", "max"} <= set(item.metadata), item.name
        assert item.metadata["min"] <= item.metadata["max"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_number_of_every_command_declares_min_and_max(name):
    for kind in load_command(name).kinds.values():
        for option in layout(kind).options.values():
            if is_numeric(option.kind):
                assert option.low is not None, option.name
                assert option.high is not None, option.name


def like(hint, value):
    """`value` in the shape of the field's type: alone, or as an element of a list or tuple."""
    text = str(hint)
    if "tuple[" not in text and "list[" not in text:
        return value
    parts = [part for part in get_args(hint) if is_numeric(part)]
    repeat = 1 if Ellipsis in get_args(hint) or "list[" in text else len(parts)
    made = [value] * repeat
    return made if text.startswith("list[") else tuple(made)


@pytest.mark.parametrize("name", CLASSES)
def test_library_users_meet_the_same_ranges(name):
    """Fields outside their range are refused with their name, whoever builds the object."""
    kind = CLASSES[name]
    fields = {item.name: item for item in dataclasses.fields(kind)}
    base = {key: value for key, value in REQUIRED.items() if key in fields}
    base = {key: value for key, value in base.items() if not valid_default(fields[key])}
    hints = get_type_hints(kind)
    base |= {key: (64, 64) for key, hint in hints.items() if hint == tuple[int, int]}
    for item in numeric_fields(kind):
        low, high = item.metadata["min"], item.metadata["max"]
        for bad in (math.nan, math.inf, -math.inf, low - 1, high + 1, 1e30, 10**5000, "x", True):
            value = like(hints[item.name], bad)
            with pytest.raises((ValueError, TypeError)) as caught:
                kind(**(base | {item.name: value}))
            assert type(caught.value) not in (ValueError, TypeError), (item.name, bad)
            assert item.name in str(caught.value)


def valid_default(item):
    missing = dataclasses.MISSING
    if item.default_factory is not missing:
        return True
    return item.default is not missing and item.default not in ("", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfRobot:
    whole: int = dataclasses.field(default=1, metadata=robot.ranges.between(0, 5, "steps"))
    real: float = dataclasses.field(default=1.0, metadata=robot.ranges.between(-1, 1, "m"))
    maybe: float | None = dataclasses.field(default=None, metadata=robot.ranges.between(0, 1))
    many: tuple[float, ...] = dataclasses.field(default=(), metadata=robot.ranges.between(0, 1))
    flag: bool = True
    text: str = ""

    def __post_init__(self):
        robot.ranges.check_ranges(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfPlanning(OfRobot):
    def __post_init__(self):
        planning.ranges.check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfWorldModel(OfRobot):
    def __post_init__(self):
        worldmodel.checked.Checked.__post_init__(self)

    owner = ""


VALUES = (0, 1, 5, 6, -1, 2.5, 0.5, 1e30, math.nan, math.inf, "", "1", None, True, [], (), (0.5,))
VALUES += ((math.nan,), (2,), ("x",), [1], {}, b"", 10**400, 10**5000, b"x" * 10**6, "x" * 10**6)
VALUES += ((2,) * 10**5, ("x" * 10**6,), (10**5000,), {1: 10**5000})


def accepts(kind, name, value):
    try:
        kind(**{name: value})
    except (robot.errors.ConfigError, ConfigError, PlanError) as error:
        assert name in str(error)  # noqa: PT017 - each package has its own error
        assert len(str(error)) < 300  # noqa: PT017 - one line of a terminal or two
        return False
    return True


@pytest.mark.parametrize("name", ["whole", "real", "maybe", "many", "flag", "text"])
def test_the_checkers_of_the_packages_agree(name):
    for value in VALUES:
        found = {accepts(kind, name, value) for kind in (OfRobot, OfPlanning, OfWorldModel)}
        if isinstance(value, list) and name == "many":
            continue  # options are lists where YAML has lists
        assert len(found) == 1, value
