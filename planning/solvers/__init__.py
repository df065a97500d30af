"""Optimisers over action sequences, with a common `minimise` method."""
