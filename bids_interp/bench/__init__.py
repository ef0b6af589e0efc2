"""Known-truth benchmark: compares every method with a planted change.

The room contains the benchmark without its graph and nodes: design, planting, baselines, scores,
goals and report. It may import ``group``, ``reports`` and the rooms below.
"""
