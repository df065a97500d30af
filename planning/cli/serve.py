"""`worldmodel serve`: plan for robots on other machines."""

from __future__ import annotations

from planning.serve_options import ServeOptions

Options = ServeOptions


def run(options: ServeOptions) -> int:
    """Serve until a signal ends the command."""
    from planning.apps.serve import serve

    serve(options, lambda text: print(text, flush=True))
    return 0
