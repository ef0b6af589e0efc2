"""Raw scan: the claims of its header, its axes, its values and its background."""
