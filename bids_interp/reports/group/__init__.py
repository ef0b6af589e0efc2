"""The report of a group."""
