"""A `worldmodel serve` in a process of its own, and a client written from openpi's protocol."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np
from websockets.exceptions import InvalidMessage
from websockets.sync.client import connect

import worldmodel
from planning.remote.server import HANDSHAKE_S

ROOT = Path(worldmodel.__file__).parents[1]
TIMEOUT_S = 240
"""Longest wait for something that takes seconds when the machine is free."""
QUICK = ["samples=16", "iterations=2", "elites=4", "device=cpu"]


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen
    url: str
    log: Path

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    def kill(self):
        self.process.kill()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)


def wait_for(what, condition):
    """Wait until a condition holds; return its value."""
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {TIMEOUT_S} s")


@contextlib.contextmanager
def serving(folder, *words, quick=QUICK):
    """Serve the embedded model with a quick planner until the end of the block."""
    log = Path(folder) / f"serve-{time.monotonic_ns()}.txt"
    command = [sys.executable, "-m", "worldmodel", "serve", "port=0", *quick, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)

    def address():
        assert process.poll() is None, log.read_text()
        return re.search(r"^serving .* at (wss?://\S+:\d+);", log.read_text(), re.MULTILINE)

    try:
        yield Served(process, wait_for("serving", address)[1], log)
    finally:
        process.kill()
        process.wait()


def pack_array(value):
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    return value


def unpack_array(value):
    if b"__ndarray__" in value:
        data, dtype, shape = (value[key] for key in (b"data", b"dtype", b"shape"))
        return np.ndarray(buffer=data, dtype=np.dtype(dtype), shape=shape)
    return value


class OpenpiClient:
    """What openpi's `WebsocketClientPolicy` does, from its published source."""

    def __init__(self, url, api_key=None, **more):
        headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        more |= {"compression": None, "max_size": None, "additional_headers": headers}
        began = time.monotonic()
        try:
            self.ws = connect(url, **more)
        except InvalidMessage:
            if time.monotonic() - began < HANDSHAKE_S:
                raise
            self.ws = connect(url, **more)  # the machine stalled for longer than a handshake may
        self.metadata = msgpack.unpackb(self.ws.recv(timeout=TIMEOUT_S), object_hook=unpack_array)

    def send(self, data):
        self.ws.send(data)
        answer = self.ws.recv(timeout=TIMEOUT_S)
        return (
            answer if isinstance(answer, str) else msgpack.unpackb(answer, object_hook=unpack_array)
        )

    def infer(self, observation):
        answer = self.send(msgpack.packb(observation, default=pack_array))
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.ws.close()
