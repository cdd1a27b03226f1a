"""Image pairs of a known α."""
