"""Writers of recorded episodes."""
