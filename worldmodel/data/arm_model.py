"""Forward kinematics of any arm from its URDF or MJCF file, by MuJoCo.

Shapes: T control steps, J joints.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.episode import Array, EpisodeError
from worldmodel.errors import ConfigError

MAX_FILE_BYTES = 2**26
"""Maximum size of a robot's description [bytes]."""
GEOMETRY = ("visual", "collision")
"""Parts of a URDF link that kinematics do not need; their meshes may be missing."""


class ArmModel:
    """Pose of a body of an arm at joint positions.

    Args:
        path: URDF or MJCF file.
        body: Body, site or link whose pose is computed.
        joints: Joints in the order of the recorded values; empty for the first ones.

    Raises:
        ConfigError: The file cannot be read, or lacks the body or a joint; the message lists those
            that it has.
    """

    def __init__(self, path: Path, body: str, joints: tuple[str, ...] = ()) -> None:
        import mujoco

        self.path = path
        self._mujoco: Any = mujoco
        self.model = _compile(path)
        self.data = mujoco.MjData(self.model)
        bodies = [self.model.body(i).name for i in range(1, self.model.nbody)]
        sites = [self.model.site(i).name for i in range(self.model.nsite)]
        if body not in (*bodies, *sites):
            raise ConfigError(
                f"robot_body={body!r} is not in {path}; it has the bodies {bodies} and the sites "
                f"{sites}"
            )
        self._frame: Any = self.data.body(body) if body in bodies else self.data.site(body)
        free, ball = mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_BALL
        kinds = {self.model.joint(i).name: self.model.jnt_type[i] for i in range(self.model.njnt)}
        self.names = [name for name, kind in kinds.items() if kind not in (free, ball)]
        unknown = [name for name in joints if name not in self.names]
        if unknown:
            raise ConfigError(
                f"robot_joints has {unknown[0]!r}, which {path} lacks; it has the joints "
                f"{self.names}"
            )
        self.joints = joints

    def poses(self, values_TJ: Array) -> tuple[Array, Array]:
        """Return positions [T, 3, m] and rotation matrices [T, 3, 3] of the body.

        Raises:
            EpisodeError: The number of joints differs, or a value is not finite.
        """
        names = self.joints or tuple(self.names[: values_TJ.shape[1]])
        if len(names) != values_TJ.shape[1]:
            raise EpisodeError(
                "column_width",
                f"state has {values_TJ.shape[1]} joint positions, and robot_file the joints "
                f"{self.joints or self.names}",
            )
        if not np.isfinite(values_TJ).all():
            raise EpisodeError("pose_not_finite", "the joint positions hold NaN or infinity")
        places = [int(self.model.joint(name).qposadr[0]) for name in names]
        positions, rotations = [], []
        for values in values_TJ:
            self.data.qpos[places] = values
            self._mujoco.mj_kinematics(self.model, self.data)
            positions.append(self._frame.xpos.copy())
            rotations.append(self._frame.xmat.reshape(3, 3).copy())
        return np.array(positions), np.array(rotations)


@lru_cache(maxsize=4)
def open_arm(path: str, body: str, joints: tuple[str, ...]) -> ArmModel:
    """Return the model of an arm, read once; see `ArmModel`.

    Raises:
        ConfigError: See `ArmModel`.
    """
    return ArmModel(Path(path), body, joints)


def _compile(path: Path) -> Any:
    import mujoco

    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(
                f"robot_file={path} is not a file of at most {MAX_FILE_BYTES} bytes; a URDF or "
                "MJCF is needed"
            )
        root = ElementTree.parse(path).getroot()
        if root.tag != "robot":
            return mujoco.MjModel.from_xml_path(str(path))
        return mujoco.MjModel.from_xml_string(_skeleton(root))
    except (OSError, ValueError, RecursionError, ElementTree.ParseError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"robot_file={path} cannot be read: {str(error)[:500]}") from error


def _skeleton(root: ElementTree.Element) -> str:
    """Return a URDF without geometry, in which every link is kept and has a mass."""
    for link in root.iter("link"):
        for tag in (*GEOMETRY, "inertial"):
            for part in link.findall(tag):
                link.remove(part)
        inertial = ElementTree.SubElement(link, "inertial")
        ElementTree.SubElement(inertial, "mass", value="1")
        ones = {name: "1" if name[1] == name[2] else "0" for name in _INERTIA}
        ElementTree.SubElement(inertial, "inertia", ones)
    for other in root.findall("mujoco"):
        root.remove(other)
    options = ElementTree.SubElement(root, "mujoco")
    ElementTree.SubElement(options, "compiler", fusestatic="false", discardvisual="true")
    return ElementTree.tostring(root, encoding="unicode")


_INERTIA = ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
