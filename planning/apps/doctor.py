"""Examine a machine: libraries, processor, graphics, codecs, disk, cameras, robot, plan server.

What may crash or hang (torch, CUDA, OpenGL, cameras) is tried in a process of its own. Nothing here
imports torch.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from planning.apps.doctor_probes import CAMERA, RENDER, TORCH, probe
from planning.doctor_options import DoctorOptions
from planning.errors import PlanningError
from worldmodel.data.cache import cache_root
from worldmodel.errors import ConfigError

Status = Literal["ok", "missing", "optional"]
"""`optional` is absent, and needed by some uses only."""
OLDEST_PYTHON = (3, 11)
FRANKA_PORT = 1337
"""TCP port of a Franka's control box for libfranka."""
EXTRAS = {
    "twin": ("franky_sim", "the simulated robot (robot=twin)"),
    "robot": ("franky", "a real Franka, USB and network cameras"),
    "realsense": ("pyrealsense2", "Intel RealSense cameras"),
    "fetch": ("gymnasium_robotics", "Fetch environments (environment=fetch_push)"),
    "robotiq": ("minimalmodbus", "Robotiq's gripper (gripper=robotiq)"),
    "serve": ("msgpack", "plan servers and their clients"),
    "rlds": ("tensorflow_datasets", "recordings in RLDS layout"),
    "lerobot": ("pyarrow", "recordings in LeRobot layout"),
    "hf": ("transformers", "backbones from transformers"),
    "video": ("torchcodec", "faster video decoding"),
    "flash": ("flash_attn", "flash attention on CUDA"),
    "nevergrad": ("nevergrad", "Nevergrad's optimisers"),
    "slurm": ("submitit", "training on a Slurm cluster"),
    "trackio": ("trackio", "the experiment tracker trackio"),
    "wandb": ("wandb", "the experiment tracker W&B"),
    "rerun": ("rerun", "recordings for Rerun's viewer (rerun=true)"),
}
"""Extra -> a module that it installs, and what it is for."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A thing that was looked for."""

    name: str
    status: Status
    found: str
    """What there is, or why there is nothing."""
    fix: str = ""
    """What to install or to do; empty if nothing."""

    def line(self) -> str:
        """Return the check as a line of text."""
        fix = f". {self.fix}" if self.fix else ""
        return f"{self.status:8s} {self.name:12s} {self.found}{fix}"


def examine(options: DoctorOptions) -> Iterator[Check]:
    """Yield the checks one after another, the quick ones first."""
    yield python_check()
    yield libraries_check(needs_torch=not options.remote.policy)
    yield from disk_checks(options.free_gb)
    yield codecs_check()
    yield from torch_checks(options.probe_s, needed=not options.remote.policy)
    yield render_check(options.probe_s)
    yield camera_check(options.camera, options.probe_s)
    yield from extra_checks()
    if options.address:
        yield robot_check(options.address, options.probe_s)
        yield kernel_check()
    if options.remote.policy:
        yield server_check(options)


def python_check() -> Check:
    """Check the version of Python."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info >= OLDEST_PYTHON:
        return Check(name="python", status="ok", found=found)
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Check(name="python", status="missing", found=found, fix=f"Install Python {wanted}")


def libraries_check(*, needs_torch: bool) -> Check:
    """Check that every library of the base installation is there."""
    try:
        lines = requires("worldmodel") or []
    except PackageNotFoundError:
        found = "the distribution worldmodel is not installed"
        return Check(name="libraries", status="missing", found=found, fix="pip install .")
    names = [_name(line) for line in lines if "extra ==" not in line]
    if not needs_torch:
        names = [name for name in names if name not in ("torch", "tensorboard", "safetensors")]
    lacking = [name for name in names if not _has(name)]
    if lacking:
        fix = f"pip install {' '.join(lacking)}"
        return Check(name="libraries", status="missing", found=f"{len(lacking)} lacking", fix=fix)
    return Check(name="libraries", status="ok", found=f"all {len(names)}")


def _name(line: str) -> str:
    """Return the name in a requirement such as `av>=14; python_version > "3"`."""
    return next(part for part in line.replace(";", " ").replace("[", " ").split()).split(">")[0]


def _has(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def disk_checks(free_gb: float) -> Iterator[Check]:
    """Check the free space of the cache and of the current folder."""
    try:
        places = {"cache": cache_root(), "folder": Path.cwd()}
    except ConfigError as error:
        yield Check(name="cache", status="missing", found=str(error), fix="Set WORLDMODEL_CACHE")
        places = {"folder": Path.cwd()}
    for name, path in places.items():
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        free = shutil.disk_usage(there).free / 1e9
        found = f"{free:.1f} GB free at {path}"
        if not os.access(there, os.W_OK):
            fix = "Choose a folder that you may write, or set WORLDMODEL_CACHE"
            yield Check(name=name, status="missing", found=f"{path} is read-only", fix=fix)
        elif free < free_gb:
            fix = f"Free {free_gb:g} GB, or set WORLDMODEL_CACHE to another disk"
            yield Check(name=name, status="missing", found=found, fix=fix)
        else:
            yield Check(name=name, status="ok", found=found)


def codecs_check() -> Check:
    """Check the video codecs of recordings: H.264 both ways, AV1 and MJPEG for reading."""
    if find_spec("av") is None:
        return Check(name="codecs", status="missing", found="PyAV", fix="pip install av")
    import av

    wanted = [("h264", "r"), ("h264", "w"), ("av1", "r"), ("mjpeg", "r")]
    lacking = []
    for name, mode in wanted:
        try:
            av.codec.Codec(name, mode)
        except ValueError:
            lacking.append(f"{name} ({'read' if mode == 'r' else 'write'})")
    if lacking:
        fix = "pip install --force-reinstall --only-binary :all: av"
        return Check(name="codecs", status="missing", found=", ".join(lacking), fix=fix)
    return Check(name="codecs", status="ok", found=f"h264, av1, mjpeg (PyAV {av.__version__})")


def torch_checks(timeout_s: float, *, needed: bool) -> Iterator[Check]:
    """Check PyTorch and CUDA."""
    found = probe(TORCH, timeout_s)
    if "error" in found:
        fix = "pip install torch, or plan with a server: drive policy=ws://HOST:PORT"
        status: Status = "missing" if needed else "optional"
        yield Check(name="torch", status=status, found=str(found["error"]), fix=fix)
        return
    built = f"CUDA {found['built']}" if found["built"] else "CPU build"
    text = f"{found['version']} ({built}, {found['threads']} threads)"
    yield Check(name="torch", status="ok", found=text)
    devices = found["devices"]
    assert isinstance(devices, list)
    if devices:
        text = ", ".join(f"{name} ({memory / 1e9:.0f} GB)" for name, memory in devices)
        yield Check(name="cuda", status="ok", found=text)
        return
    has_card = shutil.which("nvidia-smi") is not None
    fix = ""
    if has_card:
        fix = "Install a build of torch for CUDA" if not found["built"] else "Update the driver"
    text = "no device that torch can use; models run on the CPU"
    yield Check(name="cuda", status="optional", found=text, fix=fix)


def render_check(timeout_s: float) -> Check:
    """Check that scenes can be rendered without a screen."""
    found = probe(RENDER, timeout_s)
    if "error" in found:
        fix = "sudo apt-get install -y libegl1 libgl1-mesa-dri"
        text = str(found["error"]).partition(". Install")[0]
        return Check(name="rendering", status="missing", found=text, fix=fix)
    return Check(name="rendering", status="ok", found=str(found["found"]))


def camera_check(camera: str, timeout_s: float) -> Check:
    """Read an image from the given camera, or list the devices."""
    if camera:
        found = probe(CAMERA, timeout_s, camera)
        if "error" in found:
            fix = "Check the cable and the name; USB cameras need pip install 'worldmodel[robot]'"
            return Check(name="camera", status="missing", found=str(found["error"]), fix=fix)
        return Check(name="camera", status="ok", found=f"{camera}: image of {found['found']} px")
    devices = sorted(Path("/dev").glob("video*"))
    closed = [str(path) for path in devices if not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        fix = "sudo usermod -aG video $USER, then log in again"
        text = f"no permission for {', '.join(closed)}"
        return Check(name="cameras", status="missing", found=text, fix=fix)
    if not devices:
        return Check(name="cameras", status="optional", found="no USB camera at /dev/video*")
    return Check(name="cameras", status="ok", found=", ".join(map(str, devices)))


def extra_checks() -> Iterator[Check]:
    """List the extras, installed or not."""
    for extra, (module, purpose) in EXTRAS.items():
        if find_spec(module) is not None:
            yield Check(name=f"[{extra}]", status="ok", found=purpose)
        else:
            fix = f"pip install 'worldmodel[{extra}]'"
            yield Check(name=f"[{extra}]", status="optional", found=purpose, fix=fix)


def robot_check(address: str, timeout_s: float) -> Check:
    """Check that a Franka's control box takes connections."""
    began = time.monotonic()
    try:
        socket.create_connection((address, FRANKA_PORT), timeout=min(timeout_s, 5.0)).close()
    except OSError as error:
        fix = "Check the cable, the address and that FCI is activated in Desk"
        text = f"{address} port {FRANKA_PORT}: {error}"
        return Check(name="franka", status="missing", found=text, fix=fix)
    took = 1000 * (time.monotonic() - began)
    return Check(name="franka", status="ok", found=f"{address} answers ({took:.1f} ms)")


def kernel_check() -> Check:
    """Check for the real-time kernel that libfranka requires."""
    flag = Path("/sys/kernel/realtime")
    if flag.is_file() and flag.read_text(encoding="ascii").strip() == "1":
        return Check(name="kernel", status="ok", found=f"real-time ({platform.release()})")
    fix = "Install a PREEMPT_RT kernel; realtime=false is for simulated arms only"
    found = f"{platform.release()} is not a real-time kernel"
    return Check(name="kernel", status="missing", found=found, fix=fix)


def server_check(options: DoctorOptions) -> Check:
    """Check that a plan server answers, and how soon."""
    from planning.remote.policy import RemotePolicy

    try:
        policy = RemotePolicy(options.remote)
    except PlanningError as error:
        return Check(name="policy", status="missing", found=str(error))
    try:
        delay_ms = 1000 * policy.connection.round_trip_s()
    except PlanningError as error:
        return Check(name="policy", status="missing", found=str(error))
    finally:
        policy.close()
    found = f"{options.remote.policy} plans with {policy.hello.get('model')} ({delay_ms:.1f} ms)"
    return Check(name="policy", status="ok", found=found)
