"""Grids and intensities: warps, similarities, geometry, overlap."""
