"""Every option of every command is read by code that the command runs, or is refused."""

from pathlib import Path

import pytest

import worldmodel
from planning.cli import app, commands
from planning.cli.fields import layout
from tests.planning.cli.option_walk import Program, Walk, qualified

ROOT = Path(worldmodel.__file__).parents[1]
PACKAGES = [ROOT / name for name in ("worldmodel", "planning", "robot", "envs")]
READ_BY_THE_COMMAND_LINE = {"recipe", "mode"}
"""They choose the options class and its file before `run`."""
PERMISSIONS = {"motion.unattended": ["robot=mujoco", "execute=true", "unattended=true"]}
"""Options that only allow or refuse others, with words that they must refuse."""


def ignored_options(program, module, kinds):
    """Options of each mode that no code below `run` reads; returns them and how many there are."""
    ignored, count = [], 0
    for mode, kind in kinds.items():
        others = [qualified(k) for k in kinds.values() if k is not kind]
        walk = Walk(program, qualified(kind), others)
        reads = walk.run(f"{module}.run")
        found = layout(kind)
        owners = {"": kind} | {name: s.kind for name, s in found.sections.items()}
        for option in found.options.values():
            count += 1
            if option.leaf in READ_BY_THE_COMMAND_LINE or option.name in PERMISSIONS:
                continue
            bases = [qualified(base) for base in owners[option.section].__mro__]
            if not any((base, option.leaf) in reads for base in bases):
                ignored.append(f"{mode + ': ' if mode else ''}{option.name}")
    return ignored, count


@pytest.fixture(scope="module")
def program():
    return Program(PACKAGES)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_option_is_read(program, name):
    command = commands.load_command(name)
    ignored, count = ignored_options(program, commands.COMMANDS[name].module, command.kinds)
    print(f"{name}: {count} options")
    assert not ignored


def test_number_of_options():
    kinds = [k for name in commands.COMMANDS for k in commands.load_command(name).kinds.values()]
    count = sum(len(layout(kind).options) for kind in kinds)
    print(f"{count} options of {len(kinds)} commands and modes")
    assert count > 300


@pytest.mark.parametrize("name", ["drive", "calibrate axes", "capture-goal"])
def test_permissions_are_refused_where_they_have_no_effect(name):
    (kind,) = commands.load_command(name).kinds.values()
    for option, words in PERMISSIONS.items():
        assert option in layout(kind).options
        with pytest.raises(ValueError, match=f"{option.rpartition('.')[2]}=.* has no effect"):
            app.parse_options(name, kind, words)


SOURCE = {
    "options.py": """
from dataclasses import dataclass, field, replace
@dataclass(frozen=True, kw_only=True)
class Part:
    used: int = 1
    checked_only: int = 1
    other_mode_only: int = 1
    def __post_init__(self):
        assert self.checked_only > 0
@dataclass(frozen=True, kw_only=True)
class First:
    part: Part = field(default_factory=Part)
    direct: int = 1
    ignored: int = 1
    out_of_reach: int = 1
    by_property: int = 1
    @property
    def doubled(self) -> int:
        return 2 * self.by_property
@dataclass(frozen=True, kw_only=True)
class Second:
    part: Part = field(default_factory=Part)
""",
    "work.py": """
from dataclasses import replace
from walked.options import First, Part, Second
TASKS = {"first": lambda options: first(options), "second": lambda options: second(options)}
class Holder:
    def __init__(self, options: First) -> None:
        self.options, self.ignored = options, 3
    def work(self) -> int:
        return self.options.doubled + self.ignored
def use(part: Part) -> int:
    return part.used
def first(options: First) -> int:
    changed = replace(options, direct=3)
    return Holder(changed).work() + changed.direct + use(options.part)
def second(options: Second) -> int:
    return options.part.other_mode_only + options.part.used + options.part.checked_only
def forgotten(options: First) -> int:
    return options.out_of_reach
""",
    "command.py": """
from walked.options import First, Second
def run(options: First | Second) -> int:
    from walked import work
    return work.TASKS["first"](options)
""",
}


def test_the_walk_finds_ignored_options(tmp_path, monkeypatch):
    folder = tmp_path / "walked"
    folder.mkdir()
    for file, text in {"__init__.py": "", **SOURCE}.items():
        (folder / file).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    from walked.options import First, Second

    program = Program([folder])
    ignored, count = ignored_options(program, "walked.command", {"a": First, "b": Second})
    assert count == 10
    assert ignored == [
        "a: part.checked_only",
        "a: part.other_mode_only",
        "a: ignored",
        "a: out_of_reach",
    ]
