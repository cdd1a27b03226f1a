"""Simulation of image pairs with known α."""
