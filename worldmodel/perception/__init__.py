"""What frozen encoders see."""
