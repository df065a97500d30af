"""Serve plans to robots on other machines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from planning.apps.own_encoder import open_world
from planning.apps.plan_sessions import PlanService, PlanSession
from planning.errors import PlanError
from planning.goals import read_goals
from planning.remote.server import PlanServer
from planning.remote.token import read_or_make_token
from planning.remote.wire import need
from planning.serve_options import ServeOptions, is_loopback


def serve(options: ServeOptions, tell: Callable[[str], None]) -> None:
    """Load the model and serve plans until a signal ends the process.

    Args:
        options: Options of the server.
        tell: Shows a line; the last one before clients can connect has the address.

    Raises:
        PlanError: An option is wrong, the address is in use, or an extra is missing.
    """
    for module in ("msgpack", "websockets"):
        need(module)
    options = options.resolved()
    listen = options.listen
    token = read_or_make_token(listen.token_file)
    goals = read_goals(options.goals, []) if options.goals else []
    if len(goals) > 1:
        raise PlanError(f"goals={options.goals} are {len(goals)} images. Allowed: one")
    world = open_world(options.model, options.device, options.precision)
    service = PlanService(world, options, goals[0].image if goals else None)
    threads = listen.max_clients if options.batch_window_s else 1
    server = PlanServer(
        lambda: PlanSession(service), service.hello(), listen, token, threads=threads
    )
    if not is_loopback(listen.host) and not listen.tls_cert:
        tell("Images, plans and the token travel unencrypted: add tls_cert= and tls_key=")
    if token:
        tell(f"clients need the token in {listen.token_file}")

    def ready(url: str) -> None:
        tell(f"serving {options.model} ({options.planner.method}) at {url}; Ctrl-C ends")

    asyncio.run(server.run(ready))
