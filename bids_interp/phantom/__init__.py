"""Phantoms with an exactly known change: regions, planted atrophy, random anatomy, heads, blobs."""
