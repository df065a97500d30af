"""Depth and classes of pixels."""
