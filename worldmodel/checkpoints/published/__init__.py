"""Published checkpoints of the V-JEPA family; one file a layout."""
