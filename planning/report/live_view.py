"""Live web page of a drive: camera, goal, energy, plan and reasons.

It is served from background threads. The control loop only replaces a reference; images are
compressed in the server's threads when a browser requests them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import numpy as np
from numpy.typing import NDArray

from planning.drive_log import step_row
from planning.driving import Step
from planning.errors import DriveError
from planning.protocols import SubGoal
from planning.report.page import png_bytes

PAGE = """<!doctype html><html lang=en><meta charset=utf-8><title>worldmodel drive</title>
<style>body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem;color:#222}
img{width:320px;image-rendering:pixelated;border-radius:4px;background:#eee}
figure{display:inline-block;margin:0 1rem 1rem 0}pre{white-space:pre-wrap}
.no{color:#a32014}</style><h1>worldmodel drive</h1>
<figure><img id=camera alt=camera><figcaption>camera</figcaption></figure>
<figure><img id=goal alt=goal><figcaption id=name>goal</figcaption></figure>
<div><svg id=plot width=660 height=140 role=img aria-label="energy over steps">
<polyline id=line fill=none stroke="#2457a6" stroke-width=2 /></svg></div>
<p id=step>waiting for the first step</p><p id=reasons class=no></p><pre id=plan></pre>
<script>
let seen=-1;
async function look(){
 try{const s=await (await fetch('state.json')).json();
  if(s.count!==seen){seen=s.count;
   document.getElementById('camera').src='camera.png?'+s.count;
   document.getElementById('goal').src='goal.png?'+s.count;
   document.getElementById('name').textContent='goal: '+s.goal;
   document.getElementById('step').textContent=s.text;
   document.getElementById('reasons').textContent=(s.row.reasons||[]).join('; ');
   document.getElementById('plan').textContent='plan '+JSON.stringify(s.row.plan||[])+
     '\\nsent '+JSON.stringify(s.row.sent||[])+'\\nseconds '+JSON.stringify(s.row.seconds||{});
   const e=s.energies,top=Math.max(1e-9,...e);
   document.getElementById('line').setAttribute('points',
     e.map((v,i)=>(10+i*640/Math.max(1,e.length-1))+','+(130-120*v/top)).join(' '));}
 }catch(error){document.getElementById('step').textContent='the drive has ended';}
 setTimeout(look,300);}
look();
</script></html>"""


class _State:
    """Content of the page; immutable, replaced as a whole."""

    def __init__(self) -> None:
        grey = np.full((8, 8, 3), 200, np.uint8)
        self.camera: NDArray[np.uint8] = grey
        self.goal: NDArray[np.uint8] = grey
        self.step: Step | None = None
        self.name, self.count = "", 0
        self.energies: tuple[float, ...] = ()

    def json(self) -> str:
        row = {} if self.step is None else step_row(self.step)
        text = "waiting for the first step"
        if self.step is not None:
            text = f"step {self.step.index}, energy {row.get('energy', float('nan')):.4f}"
        found = {
            "count": self.count,
            "goal": self.name,
            "text": text,
            "row": row,
            "energies": list(self.energies),
        }
        # Browsers reject NaN in JSON.
        return json.dumps(json.loads(json.dumps(found), parse_constant=lambda _: None))


class LiveView:
    """Server of the live page; runs until closed.

    Args:
        port: TCP port; 0 uses any free port.
        host: address to listen on; the default accepts local connections only.

    Raises:
        DriveError: the port is not available.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.now = _State()
        view = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, body = view.answer(self.path.split("?")[0])
                self.send_response(200 if kind else 404)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Do not log requests."""

        try:
            self.server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise DriveError(
                f"The live view cannot use port {port} ({error}): port=0 takes a free one"
            ) from error
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://{host}:{self.server.server_address[1]}/"

    def answer(self, path: str) -> tuple[str, bytes]:
        """Return content type and body of a path; the type is empty for an unknown path."""
        now = self.now
        if path in ("/", "/index.html"):
            return "text/html; charset=utf-8", PAGE.encode()
        if path == "/state.json":
            return "application/json", now.json().encode()
        if path == "/camera.png":
            return "image/png", png_bytes(now.camera, 1)
        if path == "/goal.png":
            return "image/png", png_bytes(now.goal, 1)
        return "", b"not found"

    def begin(self, goals: Sequence[SubGoal]) -> None:
        """Start a new episode with these goals."""
        self.goals = goals
        self.energies: list[float] = []

    def step(self, step: Step) -> None:
        """Show a step."""
        new = _State()
        new.count, new.step, new.camera = self.now.count + 1, step, step.frame.image
        new.goal, new.name = self.now.goal, self.now.name
        if step.decision is not None:
            self.energies.append(step.decision.energy)
            goal = self.goals[step.decision.sub_goal]
            new.goal, new.name = goal.image, goal.name
        new.energies = tuple(self.energies)
        self.now = new

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
