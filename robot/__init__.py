"""Arms, safety, cameras and recording; NumPy only."""
