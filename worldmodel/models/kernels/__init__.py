"""Opt-in fast paths, each beside a plain equal."""
