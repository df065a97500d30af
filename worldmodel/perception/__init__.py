"""Perception with frozen encoders: features, probes, anticipation, surprise, segmentation."""
