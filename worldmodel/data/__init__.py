"""Recorded episodes: readers and writers, the index, clips, and their cache."""
