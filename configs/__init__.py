"""Recipes: differences from the defaults, one YAML file each."""
