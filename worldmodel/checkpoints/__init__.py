"""Read and write weights, in our own format and in published ones."""
