"""Options of `worldmodel serve` and of a drive with a plan server; see `planning.options`."""

from __future__ import annotations

import dataclasses
import ipaddress
import urllib.parse
from dataclasses import dataclass, field

from planning.errors import PlanError
from planning.options import Device, Precision
from planning.planner_options import GoalPlannerOptions
from planning.ranges import between, check_fields


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from its own machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, kw_only=True)
class RemoteOptions:
    """Plan server in place of a model on this machine, which then needs no torch."""

    policy: str = ""
    """Address of a plan server, ws://HOST:PORT or wss://HOST:PORT (`worldmodel serve`; empty: plan
    on this machine)."""
    token_file: str = ""
    """File whose content is the server's token (empty: none)."""
    tls_ca: str = ""
    """Certificate file by which a wss:// server is recognised (empty: the system's authorities)."""
    heartbeat_s: float = field(default=0.3, metadata=between(0.05, 3600, "s"))
    """The arm is stopped if the server has not answered a heartbeat for this long."""
    answer_s: float = field(default=5.0, metadata=between(0.05, 3600, "s"))
    """The arm is stopped and the drive ends if a plan takes longer than this."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.policy:
            changed = [
                item.name
                for item in dataclasses.fields(self)
                if getattr(self, item.name) != item.default
            ]
            if changed:
                raise PlanError(
                    f"{' '.join(changed)} has an effect only with policy=ws://HOST:PORT."
                )
            return
        self.check_address()

    def check_address(self) -> tuple[str, int, bool]:
        """Return host, port and whether the connection is encrypted.

        Raises:
            PlanError: `policy` is not an address of a plan server.
        """
        try:
            parts = urllib.parse.urlsplit(self.policy)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urllib.parse.urlsplit("")
        rest = parts.path.strip("/") or parts.query or parts.username
        if parts.scheme not in ("ws", "wss") or not host or not port or rest:
            raise PlanError(
                f"policy={self.policy!r} is not an address. Allowed: ws://HOST:PORT or "
                "wss://HOST:PORT, as `worldmodel serve` prints it."
            )
        if self.tls_ca and parts.scheme == "ws":
            raise PlanError(
                f"tls_ca={self.tls_ca!r} has an effect only with policy=wss://HOST:PORT."
            )
        return host, port, parts.scheme == "wss"


@dataclass(frozen=True, kw_only=True)
class ListenOptions:
    """Address, access and limits of a plan server."""

    host: str = "127.0.0.1"
    """Address to listen on: 127.0.0.1 for this machine only, 0.0.0.0 for the network, which needs
    token_file."""
    port: int = field(default=8000, metadata=between(0, 65_535))
    """TCP port (0: any free port, which is printed)."""
    token_file: str = ""
    """File whose content clients must present; a missing one is created with a random token."""
    tls_cert: str = ""
    """Certificate file (PEM) for wss://; needs tls_key."""
    tls_key: str = ""
    """Private key file (PEM) of tls_cert."""
    max_clients: int = field(default=4, metadata=between(1, 64))
    """Maximum number of connected clients; a further one is refused."""
    max_message_mb: int = field(default=32, metadata=between(1, 1024, "MB"))
    """Maximum size of a message of a client."""
    idle_s: float = field(default=600.0, metadata=between(0.1, 86_400, "s"))
    """A client that completes no request for this long is disconnected."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not is_loopback(self.host) and not self.token_file:
            raise PlanError(
                f"host={self.host} lets other machines connect. Add token_file=FILE, which is made "
                "if there is none, or use host=127.0.0.1."
            )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise PlanError("tls_cert and tls_key belong together. Give both, or none.")


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Options of `worldmodel serve`."""

    model: str = ""
    """Model: embedded or published name, file, or folder of a training run (empty:
    one_goal_labelled for skills, default for actions)."""
    device: Device = "auto"
    """Device of the model."""
    precision: Precision = "auto"
    """Data type of the model's weights; auto is bfloat16 on CUDA devices that have it."""
    planner: GoalPlannerOptions = field(default_factory=GoalPlannerOptions)
    """Search settings of the planner; method=auto plans actions."""
    listen: ListenOptions = field(default_factory=ListenOptions)
    """Address, access and limits."""
    goals: list[str] = field(default_factory=list)
    """Goal image, a folder or file, for clients whose observations hold none (empty: none)."""
    seed: int = field(default=0, metadata=between(0, 2**31 - 1))
    """Seed of the search for clients that give none."""
    batch_window_s: float = field(default=0.0, metadata=between(0, 10, "s"))
    """Time to wait for other clients' work that can share a call of the model (0: one request
    after another)."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch_window_s and (
            self.planner.method == "skills" or self.planner.macro_search.is_used
        ):
            raise PlanError(
                f"batch_window_s={self.batch_window_s} has an effect only with method=actions and "
                "hierarchy=none."
            )

    def resolved(self) -> ServeOptions:
        """Return the options with method and model resolved."""
        planner = self.planner.resolved(one_image=False)
        model = planner.model_or(self.model)
        return dataclasses.replace(self, planner=planner.for_model(model), model=model)
