"""Readers of BIDS datasets and writers of BIDS derivatives."""
