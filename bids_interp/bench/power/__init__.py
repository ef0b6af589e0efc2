"""Power of a study: what a classifier and its map would have shown of a planted change."""
