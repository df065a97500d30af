"""Grids of heads on frozen tokens."""
