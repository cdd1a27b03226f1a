"""Scans to skull-stripped brains on a common cube."""
