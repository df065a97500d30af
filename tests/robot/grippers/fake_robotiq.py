"""A simulated Robotiq 2F-85: Modbus RTU over a pseudo-terminal, with fingers that take time."""

import contextlib
import os
import pty
import threading
import time
import tty


def crc(data):
    """Modbus's CRC-16, low byte first."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return bytes([value & 0xFF, value >> 8])


class FakeRobotiq:
    """Answers on `port` until it is unplugged; `object_at` is where an object stops the fingers."""

    def __init__(self, *, activated=False, object_at=None, seconds=0.05):
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        tty.setraw(self.master)
        self.port = os.ttyname(self.slave)
        self.object_at, self.seconds, self.fault = object_at, seconds, 0
        self.active, self.goal, self.begun, self.start = activated, 0, 0.0, 0
        self.speed = self.force = self.going = 0
        self.lose, self.mute, self.commands = 0, False, []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def position(self):
        share = min(1.0, (time.monotonic() - self.begun) / self.seconds)
        end = min(self.goal, 230)
        here = self.start + (end - self.start) * share
        blocked = self.object_at is not None and here >= self.object_at
        return (self.object_at if blocked else int(here)), share >= 1 or blocked, blocked

    def words(self):
        here, done, blocked = self.position()
        state = self.active | self.going << 3 | (3 if self.active else 0) << 4
        state |= ((2 if blocked else 3) if done else 0) << 6
        return [state << 8, self.fault << 8 | self.goal, here << 8]

    def obey(self, words):
        self.commands.append(words)
        action, goal = words[0] >> 8, words[1] & 0xFF
        self.start, _, _ = self.position()
        self.active, self.going = action & 1, action >> 3 & 1
        if self.going:
            self.goal, self.begun = goal, time.monotonic()
        self.speed, self.force = words[2] >> 8, words[2] & 0xFF

    def answer(self, request):
        if request[1] == 3:
            words = self.words()
            body = bytes([9, 3, 2 * len(words)]) + b"".join(w.to_bytes(2, "big") for w in words)
        else:
            data = request[7:13]
            self.obey([int.from_bytes(data[i : i + 2], "big") for i in (0, 2, 4)])
            body = request[:6]
        return body + crc(body)

    def run(self):
        buffer = b""
        while not self.ended.is_set():
            try:
                buffer += os.read(self.master, 64)
            except OSError:
                return
            length = 8 if buffer[1:2] == b"\x03" else 15
            if len(buffer) < length:
                continue
            request, buffer = buffer[:length], b""
            assert request[-2:] == crc(request[:-2])
            assert request[0] == 9
            if self.mute:
                continue
            if self.lose:
                self.lose -= 1
                continue
            os.write(self.master, self.answer(request))

    def unplug(self):
        """Close the line, as a removed USB adapter does."""
        self.ended.set()
        for end in (self.slave, self.master):
            with contextlib.suppress(OSError):
                os.close(end)
