"""Summaries and statistics of many explained images: from the derivatives alone."""
