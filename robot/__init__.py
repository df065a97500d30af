"""Robot arms, safety limits, cameras and recordings; depends on NumPy only."""
