"""Results of registrations and label runs: output folders, evaluation, HTML reports."""
