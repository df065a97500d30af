"""Readers of recorded episodes, one file a layout."""
