"""Levels: what each command does from start to end.

A level checks what was asked for, hands a graph of :mod:`bids_interp.workflows` to
:mod:`bids_interp.execution`, and turns the outcome into messages and an exit code. It may import
every room but ``cli`` and ``hpc``.
"""
