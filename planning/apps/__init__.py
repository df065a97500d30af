"""Services behind the commands; they print nothing."""
