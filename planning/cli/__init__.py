"""Command line: the composition root, one file per command."""
