"""Blobs: small images with look-alike blobs, and datasets of them."""
