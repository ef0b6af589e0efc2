"""Job scripts for clusters: one task per participant, and one job for the group level.

The scripts are rendered from ``templates/``. This room may import ``levels`` and the
rooms below.
"""
