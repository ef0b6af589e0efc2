"""Bundles, networks and the explanation of one subject: torch and nibabel only."""
