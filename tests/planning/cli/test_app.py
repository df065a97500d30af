"""The command line: overrides, errors, help, versions, sweeps."""

import json
import os
import signal
import subprocess
import sys
import types
from dataclasses import dataclass, field
from typing import Literal

import pytest

from planning.apps.workcell import read_limits
from planning.cli import app, commands
from robot.errors import ConfigError
from worldmodel.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Sizes of a part."""

    depth: int = field(default=2, metadata={"min": 1, "max": 8, "unit": "blocks"})
    """Number of blocks."""
    width: float = 1.5
    """Width of a block."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a command for tests."""

    task: Literal["reach", "push"] = "reach"
    """Task to solve."""
    episodes: int = 5
    """Number of episodes."""
    objects: list[str] = field(default_factory=lambda: ["cube"])
    """Object shapes."""
    pair: tuple[float, float] = (1.0, 2.0)
    """Two numbers."""
    limit: float | None = None
    """Limit, or none."""
    model: Inner = field(default_factory=Inner)
    """Sizes of the model."""
    teacher: Inner = field(default_factory=lambda: Inner(depth=4))
    """Sizes of the teacher."""
    width_scale: float = 1.0
    """Scale."""
    out: str = "runs/fake"
    """Output folder."""


@dataclass(frozen=True, kw_only=True)
class OtherOptions:
    """Options of the other mode."""

    name: str
    """Name that has no default."""


@pytest.fixture
def command(monkeypatch):
    module = types.ModuleType("fake_command")
    module.seen = []
    module.Options = Options
    module.run = lambda options: module.seen.append(options) or 0
    monkeypatch.setitem(sys.modules, "fake_command", module)
    entry = commands.Command("fake_command", commands.SEE, "Command of a test.")
    monkeypatch.setitem(commands.COMMANDS, "fake", entry)
    return module


@pytest.mark.parametrize("error", [DataError("x.pt: no space left"), RuntimeError("odd")])
def test_an_error_after_a_signal_has_the_signals_exit_status(command, capsys, error):
    def run(_):
        try:
            signal.raise_signal(signal.SIGHUP)
        except KeyboardInterrupt:
            raise error from None

    command.run = run
    assert app.main(["fake"]) == 128 + signal.SIGHUP
    printed = capsys.readouterr().err
    assert printed.startswith("stopped by a signal; ")
    assert ("no space left" in printed) == isinstance(error, DataError)


def test_words_reach_nested_options_and_lists(command):
    words = ["fake", "task=push", "episodes=7", "objects=[cup,box]", "model.depth=4", "pair=[3,4]"]
    assert app.main([*words, "limit=2"]) == 0
    expected = Options(
        task="push", episodes=7, objects=["cup", "box"], model=Inner(depth=4), pair=(3, 4), limit=2
    )
    assert command.seen == [expected]
    assert app.main(["fake", "limit=none", "objects=[]", "objects=cup"]) == 0
    assert command.seen[-1] == Options(objects=["cup"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["episode=3"], "Did you mean `episodes`"),
        (["episodes=many"], "episodes=many is not allowed. Allowed: whole numbers."),
        (["episodes"], "key=value"),
        (["model.dept=3"], "Did you mean `model.depth`"),
        (["depth=3"], "ambiguous. Write one of: model.depth, teacher.depth."),
        (["model.depth=9"], "model.depth=9 is not allowed. Allowed: 1 to 8 blocks."),
        (["model.width=nan"], "Allowed: finite numbers."),
        (["model.width=1e999"], "Allowed: finite numbers."),
        (["pair=[1,2,3]"], "a list of 2 values"),
        (["pair=[1,inf]"], "Allowed: finite numbers."),
        (["task=pull"], "task=pull is not allowed. Allowed: reach, push."),
        (["task="], "Allowed: reach, push."),
        (["limit=x"], "Allowed: numbers."),
        (["model=3"], "Unknown option 'model'"),
        (["out=${oc.env:HOME}"], "is not evaluated"),
        (["recipe=x"], "recipe=x is unknown"),
        (["hydra.run.dir=x"], "Add -m"),
        (["--cfg"], "--cfg job"),
    ],
)
def test_errors_are_one_line_that_says_what_is_allowed(command, capsys, words, message):
    assert app.main(["fake", *words]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert command.seen == []


def test_unknown_command_names_a_close_one(command, capsys):
    assert app.main(["fak"]) == 2
    assert "Did you mean `fake`" in capsys.readouterr().err


TEXTS = {
    "2024_11_25": "2024_11_25",
    "1e3": "1e3",
    "true": "true",
    "null": "null",
    "a,b": "a,b",
    "käse": "käse",
    "~/x": "~/x",
    "x(1)": "x(1)",
    "[a": "[a",
    "{a: 1}": "{a: 1}",
    "a=b": "a=b",
    "two words": "two words",
    "'two words'": "two words",
    '"a\'b"': "a'b",
    "it's": "it's",
    "'a' and 'b'": "'a' and 'b'",
    "C:\\new\\": "C:\\new\\",
    "\\'": "\\'",
    "#1": "#1",
    "": "",
}


@pytest.mark.parametrize("written", TEXTS)
def test_text_is_taken_as_written(written):
    assert app.parse_options("fake", Options, [f"out={written}"]).out == TEXTS[written]


def test_list_items_are_taken_as_written():
    found = app.parse_options("fake", Options, ["objects=[1e3, 2024_11_25,'a,b',x(1,2)]"])
    assert found.objects == ["1e3", "2024_11_25", "a,b", "x(1,2)"]


def test_recipe_file_comes_before_the_words(command, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text("episodes: 9\ntask: push\nmodel:\n  depth: 3\nwidth_scale: 2\n")
    assert app.main(["fake", "episodes=4", f"recipe={file}"]) == 0
    assert command.seen == [Options(episodes=4, task="push", model=Inner(depth=3), width_scale=2.0)]
    file.write_text("episodes: .nan\n")
    assert app.main(["fake", f"recipe={file}"]) == 2
    assert "episodes=nan is not allowed" in capsys.readouterr().err
    file.write_text("epi: 3\n")
    assert app.main(["fake", f"recipe={file}"]) == 2
    assert "Unknown option 'epi' in recipe" in capsys.readouterr().err
    file.write_text("[1, 2")
    assert app.main(["fake", f"recipe={file}"]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_hostile_file_of_settings_is_refused(command, tmp_path, capsys):
    files = {"deep": "{" * 5000, "wide": "a: 1 # " + "x" * (1 << 20), "pipe": ""}
    for name, text in files.items():
        file = tmp_path / f"{name}.yaml"
        if name == "pipe":
            os.mkfifo(file)
        else:
            file.write_text(text)
        assert app.main(["fake", f"recipe={file}"]) == 2
        assert f"{name}.yaml cannot be read" in capsys.readouterr().err
        with pytest.raises(ConfigError, match="cannot be read"):
            read_limits(str(file))


def test_modes_offer_their_own_options(command, capsys, tmp_path):
    command.MODES = {"first": Options, "other": OtherOptions}
    assert app.main(["fake", "mode=other", "name=x"]) == 0
    assert command.seen == [OtherOptions(name="x")]
    assert app.main(["fake", "mode=other", "episodes=3"]) == 2
    assert (
        "'episodes' of `worldmodel fake` has no effect with mode=other" in capsys.readouterr().err
    )
    assert app.main(["fake", "mode=other"]) == 2
    assert "Option name is missing" in capsys.readouterr().err
    assert app.main(["fake", "mode=third"]) == 2
    assert "Allowed: first, other" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text("mode: other\nname: from file\n")
    assert app.main(["fake", f"recipe={tmp_path / 'mine.yaml'}"]) == 0
    assert command.seen[-1] == OtherOptions(name="from file")
    assert app.main(["fake", "mode=other", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "name=(required)" in printed
    assert "episodes" not in printed
    assert app.main(["fake", f"recipe={tmp_path / 'mine.yaml'}", "--help"]) == 0
    assert capsys.readouterr().out == printed
    assert app.main(["fake", "mode=third", "--help"]) == 2


def test_help_shows_sentences_types_ranges_and_choices(command, capsys):
    assert app.main(["fake", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "task=reach  <choice>\n      Task to solve. Allowed: reach, push." in printed
    assert "model: Sizes of a part." in printed
    assert "teacher.depth=4  <integer>\n      Number of blocks. Range: 1 to 8 blocks." in printed
    assert app.main([]) == 0
    assert "Command of a test." in capsys.readouterr().out


def test_cfg_prints_the_composed_options(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert app.main(["fake", "model.depth=3", "--cfg", "job"]) == 0
    printed = capsys.readouterr().out
    assert "model:\n  depth: 3\n" in printed
    assert "hydra" not in printed
    assert command.seen == []
    assert not list(tmp_path.iterdir())


def test_version(capsys):
    assert app.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("worldmodel ")


def test_unexpected_failure_names_the_command(command, capsys):
    def fail(options):
        raise TypeError("broken")

    command.run = fail
    assert app.main(["fake", "out=a b"]) == 1
    printed = capsys.readouterr().err
    assert "error: `worldmodel fake 'out=a b'` failed: TypeError: broken" in printed


def test_sweep_runs_every_combination_in_its_own_folder(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert app.main(["fake", "-m", "episodes=1,2", "task=reach,push", "out=all"]) == 0
    found = [(o.episodes, o.task, o.out) for o in command.seen]
    assert found == [
        (1, "reach", "all/0"),
        (1, "push", "all/1"),
        (2, "reach", "all/2"),
        (2, "push", "all/3"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["all"]
    printed = capsys.readouterr().out
    assert "#2 episodes=2 task='reach': exit status 0, in all/2" in printed
    assert app.main(["fake", "-m", "out=a,'b,c'", "objects=[x,y],[z]"]) == 0
    assert {o.out for o in command.seen[4:]} == {"a", "b,c"}
    assert [o.objects for o in command.seen[4:]] == [["x", "y"], ["z"]] * 2


def test_sweep_refuses_before_it_starts(command, capsys):
    assert app.main(["fake", "-m", "episodes=1,x"]) == 2
    assert "episodes=x is not allowed" in capsys.readouterr().err
    assert command.seen == []


def test_sweep_refuses_a_launcher_that_cannot_run_here(command, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert app.main(["fake", "-m", "hydra/launcher=submitit_slurm", "episodes=1,2"]) == 2
    assert "submitit" in capsys.readouterr().err
    assert app.main(["fake", "-m", "hydra/launcher=none_such", "episodes=1,2"]) == 2
    assert "none_such" in capsys.readouterr().err
    assert command.seen == []


def test_sweep_through_submitit(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    (tmp_path / "b").write_text("in the way")
    words = ["models", "-m", "hydra/launcher=submitit_local", "out=a,b"]
    command = [sys.executable, "-m", "worldmodel", *words]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    printed = ended.stdout
    for number, status in enumerate((0, 2)):
        assert f"#{number} out='{'ab'[number]}': exit status {status}" in printed
    assert printed.count("vjepa2-vitl ") >= 1  # a job prints the list, in its own process
    assert len(json.loads((tmp_path / "a" / "summary.json").read_text())) > 10
    assert printed.count("\nerror: ") == 1
    assert "error: b: File exists. A file of this name is in the way: choose another" in printed
