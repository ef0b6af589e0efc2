"""Synthetic heads, and datasets of them."""
