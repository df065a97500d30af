"""Frozen attentive probes."""
