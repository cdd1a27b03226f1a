"""Image grids and intensities: warps, similarities, geometry, measures of quality."""
