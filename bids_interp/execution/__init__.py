"""Execution: running a graph with nipype, and the outcome of each image.

This room is independent of the method. It may import ``bids``, ``settings`` and the modules below
them.
"""
