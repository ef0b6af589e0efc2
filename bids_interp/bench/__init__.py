"""The known-truth benchmark: every method against a planted change.

The room holds the whole benchmark but its graph and nodes: design, planting, baselines, scores,
goals and report. It may import ``group``, ``reports`` and the rooms below.
"""
