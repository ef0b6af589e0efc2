"""Regions of the brain: coarse ellipsoids of the package, and labels of an atlas."""
