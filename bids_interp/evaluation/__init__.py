"""How good is a classifier, and how true is a map."""
