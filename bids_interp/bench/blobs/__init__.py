"""Blob benchmark: the synthetic experiment of the paper, with the truth of every image."""
