"""What the digest of the data code depends on."""

import shutil
from pathlib import Path

import pytest

import worldmodel
from worldmodel.data import cache

CODE = '''"""Module."""

NAME = "a # b"
"""Attribute."""


def double(x):  # a comment
    """Return twice `x`.

    Args:
        x: A number.
    """
    # another one

    return 2 * x


class Kind: ...
'''
PLAIN = """NAME = "a # b"
def double(x):
    return 2 * x
class Kind: ..."""


def test_comments_docstrings_and_blank_lines_are_no_statements():
    assert cache._statements(CODE) == PLAIN
    assert cache._statements(PLAIN) == PLAIN


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the data code, and a function that returns its digest."""
    source, copy = Path(worldmodel.__file__).parent, tmp_path / "worldmodel"
    shutil.copytree(source / "data", copy / "data", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "models").mkdir()
    for name in ("models/preprocess.py", "actions.py", "constants.py"):
        shutil.copy(source / name, copy / name)
    monkeypatch.setattr(cache, "__file__", str(copy / "data" / "cache.py"))
    return copy, cache.code_digest.__wrapped__


def test_a_comment_keeps_the_digest_and_a_number_changes_it(package):
    copy, digest = package
    before = digest()
    file = copy / "constants.py"
    code = file.read_text()
    file.write_text(code + "\n# Why it is so.\n")
    assert digest() == before == cache.code_digest()
    file.write_text(code + "X = 1\n")
    assert digest() != before
