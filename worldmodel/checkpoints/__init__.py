"""Read and write weights: our own files, and those that others publish."""
