"""α for many pairs: restartable runs on one machine or a cluster."""
