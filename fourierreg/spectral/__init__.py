"""Algebra on low frequencies: knows nothing of images."""
