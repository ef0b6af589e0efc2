"""Readers of BIDS datasets and of BIDS derivatives; may import ``bids.entities``."""
