"""Objects followed through videos (DAVIS)."""
