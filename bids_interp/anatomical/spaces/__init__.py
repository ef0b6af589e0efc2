"""Spaces of other templates: transforms between templates, and atlases in any of them."""
