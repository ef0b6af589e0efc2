"""External classifiers: their card, their safe loading, and their checks."""
