"""Features of videos and images in files."""
