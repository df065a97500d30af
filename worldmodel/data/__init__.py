"""Recorded episodes: readers, index, clips."""
