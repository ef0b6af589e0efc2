"""The report of one T1w image."""
