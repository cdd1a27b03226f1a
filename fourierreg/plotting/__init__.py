"""Plots of registrations, 3D images and networks. Functions draw on matplotlib axes."""

from fourierreg.plotting.interactive import interactive_view
from fourierreg.plotting.learning import network, training_curve
from fourierreg.plotting.registration import convergence, overview, posterior
from fourierreg.plotting.views import map_views, orthogonal_views, show_grid

__all__ = [
    "convergence",
    "interactive_view",
    "map_views",
    "network",
    "orthogonal_views",
    "overview",
    "posterior",
    "show_grid",
    "training_curve",
]
