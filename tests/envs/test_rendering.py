"""OpenGL beside other libraries of the same process."""

import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

import pytest

from envs import rendering

RENDER_THEN_TRAIN = """
import envs
envs.make("reach").reset(seed=1)
import torch
torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
import triton
"""


def test_tritons_library_is_loaded_before_a_context_is_created(tmp_path, monkeypatch):
    (tmp_path / "_C").mkdir()
    library = tmp_path / "_C" / "libtriton.cpython-312.so"
    library.touch()
    spec = ModuleSpec("triton", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    events = []
    monkeypatch.setattr(rendering, "find_spec", lambda name: spec)
    monkeypatch.setattr(rendering.ctypes, "CDLL", events.append)
    monkeypatch.setattr(rendering, "backends", lambda: events.append("context") or ("egl",))
    monkeypatch.setattr(rendering.sys, "platform", "linux")
    rendering.load_triton_first.cache_clear()
    rendering.open_context(8, 8).free()
    rendering.load_triton_first.cache_clear()
    assert events == [str(library), "context"]


@pytest.mark.skipif(find_spec("triton") is None, reason="a build of torch without Triton")
def test_a_process_renders_and_then_imports_triton():
    done = subprocess.run([sys.executable, "-c", RENDER_THEN_TRAIN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
