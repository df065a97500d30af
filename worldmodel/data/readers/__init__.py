"""Readers of recorded episodes, one module for each layout."""
