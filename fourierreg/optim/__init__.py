"""Numerical methods that know nothing of images: L-BFGS, a root finder, a batching scheduler."""
