"""Regions of the brain: built-in ellipsoids, and labels of an atlas."""
