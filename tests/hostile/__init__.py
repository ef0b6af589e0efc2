"""Hostile inputs, made from code, and the fuzzers that start from them."""
