"""Options of ``bids_interp``, one module per group of the help."""
