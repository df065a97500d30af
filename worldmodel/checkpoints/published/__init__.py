"""Loaders for the published checkpoints of the V-JEPA family."""
