"""Command line of the package: one module per command."""
