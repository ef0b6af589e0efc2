"""Execution: how a graph is run, and what became of it.

This room knows nipype and nothing of the method: settings, folders and an outcome for each image
are all that it handles. It may import ``bids``, ``settings`` and the modules below them.
"""
