"""Perception with frozen encoders: features of videos."""
