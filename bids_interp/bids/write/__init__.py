"""Writers of BIDS derivatives: sidecars, provenance, and files that are written atomically."""
