"""Texts that go with the results: methods text and references."""
