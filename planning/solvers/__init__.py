"""Optimisers over action sequences, all with one `minimise`."""
