"""Action anticipation on EPIC-KITCHENS-100."""
