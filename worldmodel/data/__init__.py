"""Recorded episodes: readers, writers, index, clips and cache."""
