"""Cameras of the lerobot package, including those of its plugins, where it is installed."""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np

from robot.cameras.camera import Frame
from robot.errors import CameraError

EXAMPLE = "lerobot:opencv,index_or_path=0,fps=30,width=640,height=480"


class LeRobotCamera:
    """A camera of lerobot, named by its type and the fields of its configuration.

    Args:
        described: Type and settings, for instance `opencv,index_or_path=0,fps=30`.

    Raises:
        CameraError: lerobot is not installed, the description is wrong, or the camera cannot be
            connected.
    """

    def __init__(self, described: str = "") -> None:
        kind, settings = _parse(described)
        try:
            configs = importlib.import_module("lerobot.cameras.configs")
            utilities = importlib.import_module("lerobot.cameras.utils")
            importlib.import_module(f"lerobot.cameras.{_folder(kind)}")  # registers the type
        except ImportError as error:
            raise CameraError(
                f"lerobot's camera {kind!r} cannot be imported ({error}): pip install lerobot and "
                "what this camera needs"
            ) from error
        self.described = described
        try:
            config = configs.CameraConfig.get_choice_class(kind)(**settings)
            self.camera: Any = utilities.make_cameras_from_configs({kind: config})[kind]
            self.camera.connect()
        except Exception as error:  # drivers of devices raise errors of any kind
            raise CameraError(
                f"lerobot's camera {described!r} cannot be opened ({type(error).__name__}: "
                f"{error}). Example: camera={EXAMPLE}"
            ) from error

    def read(self) -> Frame:
        """Return the next frame; lerobot's default is RGB.

        Raises:
            CameraError: The camera gives no frame.
        """
        try:
            image = np.asarray(self.camera.read(), dtype=np.uint8)
        except Exception as error:  # drivers of devices raise errors of any kind
            raise CameraError(
                f"lerobot's camera {self.described!r} gives no frame ({error}): is it plugged in?"
            ) from error
        return Frame(np.ascontiguousarray(image), time.monotonic())

    def close(self) -> None:
        """Disconnect the camera."""
        self.camera.disconnect()


def _parse(described: str) -> tuple[str, dict[str, object]]:
    """Split `type,name=value,...`; whole numbers become integers.

    Raises:
        CameraError: A part has no `=`, or there is no type.
    """
    kind, *parts = described.split(",")
    if not kind.isidentifier() or any("=" not in part for part in parts):
        raise CameraError(
            f"lerobot camera {described!r}; allowed: TYPE,NAME=VALUE,... for instance {EXAMPLE}"
        )
    pairs = (part.partition("=") for part in parts)
    return kind, {name: int(text) if text.isdigit() else text for name, _, text in pairs}


def _folder(kind: str) -> str:
    """Return the module of a type; lerobot registers realsense cameras as intelrealsense."""
    return {"intelrealsense": "realsense"}.get(kind, kind)
