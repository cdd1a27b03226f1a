"""Grids and intensities: resampling, residuals, deformations."""
