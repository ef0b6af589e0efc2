"""Workflow builders: they wire interfaces and compute nothing themselves."""
