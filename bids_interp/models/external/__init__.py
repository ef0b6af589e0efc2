"""Classifiers made elsewhere: their card, loading them safely, and checking them."""
