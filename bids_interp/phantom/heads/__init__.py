"""Whole synthetic heads, and datasets of them."""
