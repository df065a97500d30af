"""What a world model knows, and how far its imagination is off."""
