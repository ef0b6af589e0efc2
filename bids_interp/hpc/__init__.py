"""Job scripts for clusters: one job per participant, one for the group.

Scripts are rendered from the files in ``templates/``. This room may import ``levels`` and the
rooms below.
"""
