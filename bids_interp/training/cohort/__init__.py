"""Cohort of labelled images that a model is trained on, with its folds, grid and files."""
