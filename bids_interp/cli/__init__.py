"""Commands: they parse, build one Settings and hand it on. Nothing heavy is imported here."""
