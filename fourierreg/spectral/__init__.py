"""Algebra on the low frequencies of a periodic grid, independent of images."""
