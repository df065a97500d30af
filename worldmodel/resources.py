"""Locate the package's data files, in a checkout and in an installed wheel."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from worldmodel.errors import ConfigError

PACKAGES = ("worldmodel", "planning", "robot", "envs")


def config_folder() -> Path:
    """Return the folder that holds the configuration groups (`train/`, `pretrain/`, `robot/`).

    In a wheel the groups lie inside this package; in a checkout they lie beside it.

    Raises:
        ConfigError: The installation has no configuration files.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "train").is_dir():
            return folder
    raise ConfigError(
        f"No configuration files beside or inside {package}: the installation is incomplete. "
        "Install the package again"
    )


def require_own_packages() -> None:
    """Check that `planning`, `robot` and `envs` are this project's packages.

    The names are common: a folder or distribution of the same name earlier on the import path would
    shadow them.

    Raises:
        ImportError: Another package shadows one of the four.
    """
    home = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        loaded = sys.modules.get(name)
        spec = loaded.__spec__ if loaded is not None else find_spec(name)
        places = [Path(p).resolve() for p in (spec and spec.submodule_search_locations) or []]
        if home / name not in places:
            found = places[0] if places else (spec.origin if spec else "nothing")
            raise ImportError(
                f"The package `{name}` is imported from {found}, not from {home / name}: another "
                f"folder or distribution called `{name}` comes first on the import path. Rename "
                "it, or start Python in another folder"
            )
