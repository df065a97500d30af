"""The operator at the terminal: messages on the standard output, answers from the keyboard."""

from __future__ import annotations


class Terminal:
    """Shows messages and asks questions; fits `planning.apps.operator.Operator`."""

    def tell(self, text: str) -> None:
        """Print a message at once."""
        print(text, flush=True)

    def ask(self, question: str) -> str:
        """Return the typed answer; empty at the end of the input."""
        try:
            return input(question).strip()
        except EOFError:
            return ""
