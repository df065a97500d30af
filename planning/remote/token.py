"""Tokens of plan servers, kept in files so that no command line or log shows them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from planning.errors import PlanError

MIN_LENGTH, MAX_LENGTH = 16, 1024
"""Allowed length of a token."""


def read_token(file: str) -> str:
    """Return the token that a file holds; empty for an empty name.

    Raises:
        PlanError: The file cannot be read or holds no token.
    """
    if not file:
        return ""
    path = Path(file).expanduser()
    try:
        token = path.read_text(encoding="ascii").strip() if path.is_file() else ""
    except (OSError, ValueError) as error:
        raise PlanError(f"token_file={file} cannot be read ({error}).") from error
    if not (MIN_LENGTH <= len(token) <= MAX_LENGTH and token.isprintable() and " " not in token):
        raise PlanError(
            f"token_file={file} holds no token. Allowed: a file with one word of {MIN_LENGTH} to "
            f"{MAX_LENGTH} characters; `worldmodel serve token_file=NEW_FILE` makes one."
        )
    return token


def read_or_make_token(file: str) -> str:
    """Return the token of a file, which is made, readable for its owner only, if there is none.

    Raises:
        PlanError: The file holds no token, or cannot be made.
    """
    path = Path(file).expanduser()
    if file and not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as made:
                made.write(secrets.token_urlsafe(32) + "\n")
        except OSError as error:
            raise PlanError(f"token_file={file} cannot be made ({error}).") from error
    return read_token(file)
