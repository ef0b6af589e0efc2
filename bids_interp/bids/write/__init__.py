"""Writers of BIDS derivatives: names, sidecars, provenance, and files that are never half-written.

May import ``bids.read`` and ``bids.entities``.
"""
