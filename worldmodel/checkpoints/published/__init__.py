"""Published checkpoints of the V-JEPA family in all their layouts."""
