"""Every numeric option of every command refuses what is not a number or is out of range."""

import pytest

from planning.cli.commands import COMMANDS, load_command
from planning.cli.fields import UsageError, layout, unwrap_optional
from planning.cli.values import read_text

NUMERIC = (int, float, list[int], list[float], tuple[int, ...], tuple[float, ...])
WRONG = ("nan", "-nan", "inf", "-inf", "1e999", "x", "1,", "[", "true", "0x10")


def numeric_options(name):
    for kind in load_command(name).kinds.values():
        for option in layout(kind).options.values():
            if unwrap_optional(option.kind)[0] in NUMERIC:
                yield option


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_numbers_are_refused_by_name(name):
    for option in numeric_options(name):
        for text in WRONG:
            with pytest.raises(UsageError, match=f"^{option.name}=.* is not allowed. Allowed: "):
                read_text(option, text)


@pytest.mark.parametrize("name", COMMANDS)
def test_numbers_just_outside_the_range_are_refused(name):
    for option in numeric_options(name):
        beyond = [] if option.low is None else [option.low - 1]
        beyond += [] if option.high is None else [option.high + 1]
        for value in beyond:
            with pytest.raises(UsageError, match=r"is not allowed\. Allowed: "):
                read_text(option, f"{value:.10g}")


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_inside_their_range(name):
    for option in numeric_options(name):
        if isinstance(option.default, int | float):
            assert read_text(option, repr(option.default)) == option.default
