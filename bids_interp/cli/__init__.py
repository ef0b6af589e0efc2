"""Commands, which parse their options into Settings. Nothing heavy is imported here."""
