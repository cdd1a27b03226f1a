"""Estimation of α for many pairs: resumable runs on one machine or a cluster."""
