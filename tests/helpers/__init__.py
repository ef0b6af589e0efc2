"""Makers of data and machinery that several test files share: ``from helpers import skeletons``."""
