"""Actions of people in given boxes (AVA)."""
