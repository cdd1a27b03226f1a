"""The flow of a velocity: geodesic shooting, its tangent and its adjoints."""
