"""The output folder of a run, its evaluation, and reports."""
