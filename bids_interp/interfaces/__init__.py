"""Nipype interfaces; each is thin and calls functions of the rooms below."""
