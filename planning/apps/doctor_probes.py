"""What `worldmodel doctor` tries in a process of its own, since it may crash or hang."""

from __future__ import annotations

import json
import subprocess
import sys

TORCH = """
import json, torch
found = {"version": torch.__version__, "built": torch.version.cuda}
found["threads"] = torch.get_num_threads()
found["devices"] = [
    [torch.cuda.get_device_name(i), torch.cuda.get_device_properties(i).total_memory]
    for i in range(torch.cuda.device_count())
] if torch.cuda.is_available() else []
if found["devices"]:
    float(torch.ones(8, device="cuda").sum())
print(json.dumps(found))
"""
RENDER = """
import json
from envs.errors import RenderingError
from envs.rendering import open_context
try:
    context = open_context(64, 64)
    from OpenGL import GL
    print(json.dumps({"found": GL.glGetString(GL.GL_RENDERER).decode()}))
except RenderingError as error:
    print(json.dumps({"error": str(error)}))
"""
CAMERA = """
import json, sys
from planning.apps.open_camera import open_camera
from planning.errors import PlanError
from robot.errors import RobotError
try:
    with_camera = open_camera(sys.argv[1])
    image = with_camera.read().image
    print(json.dumps({"found": list(image.shape[:2])}))
    with_camera.close()
except (PlanError, RobotError, OSError) as error:
    print(json.dumps({"error": str(error)}))
"""
"""Errors of other kinds, as a user's camera may raise, are read from standard error."""


def probe(code: str, timeout_s: float, *arguments: str) -> dict[str, object]:
    """Run code in a Python process; return what it printed, or `error`."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_s:g} s"}
    lines = done.stdout.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return {"error": last[:300]}
