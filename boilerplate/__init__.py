"""Texts that go with the results: methods sentences, references, job scripts."""
