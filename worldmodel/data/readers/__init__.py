"""Readers of recorded episodes, one module per layout."""
