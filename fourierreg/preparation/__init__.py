"""Preparation of T1 scans: skull-stripped brains in template space on a common cube."""
