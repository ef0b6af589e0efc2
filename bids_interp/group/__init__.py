"""Group summaries and statistics of explained images, computed from the derivatives."""
