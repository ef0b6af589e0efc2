"""``bids_interp_tools``: one module per subcommand."""
