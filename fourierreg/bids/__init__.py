"""BIDS in, BIDS derivatives out: T1w scans of a data set, registered to a template."""
