import sys
import types
from dataclasses import dataclass, field

import pytest

from planning.cli import app


@dataclass
class Inner:
    depth: int = 2


@dataclass
class Options:
    task: str = field(default="reach", metadata={"help": "what to do"})
    episodes: int = 5
    objects: list[str] = field(default_factory=lambda: ["cube"])
    model: Inner = field(default_factory=Inner)


@pytest.fixture
def command(monkeypatch):
    module = types.ModuleType("fake_command")
    module.seen = []
    module.Options = Options
    module.run = lambda options: module.seen.append(options) or 0
    monkeypatch.setitem(sys.modules, "fake_command", module)
    monkeypatch.setitem(app.COMMANDS, "fake", ("fake_command", "for a test"))
    return module


def test_overrides_are_hydras_grammar(command):
    words = ["fake", "task=push", "episodes=7", "objects=[cup,box]", "model.depth=4"]
    assert app.main(words) == 0
    assert command.seen == [Options("push", 7, ["cup", "box"], Inner(4))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fake", "episode=3"], "Did you mean `episodes`"),
        (["fake", "episodes=many"], "episodes='many'"),
        (["fake", "episodes"], "key=value"),
        (["fak"], "Did you mean `fake`"),
        (["fake", "model.dept=3"], "model.depth"),
    ],
)
def test_wrong_words_say_what_was_meant(command, capsys, words, message):
    assert app.main(words) == 2
    assert message in capsys.readouterr().err
    assert command.seen == []


def test_help_lists_options_and_commands(command, capsys):
    assert app.main(["fake", "--help"]) == 0
    assert "task=reach  what to do" in capsys.readouterr().out
    assert app.main([]) == 0
    assert "demo" in capsys.readouterr().out
