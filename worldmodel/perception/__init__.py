"""Perception with frozen encoders: video features."""
