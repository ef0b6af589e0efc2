"""Levels: the work of each command from start to end.

A level checks its input, hands a graph of :mod:`bids_interp.workflows` to
:mod:`bids_interp.execution`, and turns the outcomes into messages and an exit code. It may import
every room except ``cli`` and ``hpc``.
"""
