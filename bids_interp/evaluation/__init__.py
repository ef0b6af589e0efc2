"""Evaluation of classifiers and maps."""
