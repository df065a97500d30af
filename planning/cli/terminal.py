"""Terminal interface of the operator: messages on standard output, answers from the keyboard."""

from __future__ import annotations


class Terminal:
    """Shows messages and asks questions; implements `planning.apps.operator.Operator`."""

    def __init__(self) -> None:
        self.ended = False
        """Whether the input has ended."""

    def tell(self, text: str) -> None:
        """Print a message and flush it."""
        print(text, flush=True)

    def ask(self, question: str) -> str:
        """Return the typed answer; empty at the end of input."""
        try:
            return input(question).strip()
        except EOFError:
            self.ended = True
            return ""
