"""Algebra on the low frequencies of a periodic grid; knows nothing of images."""
