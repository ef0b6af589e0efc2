"""The labelled cohort that a model is trained on: images, folds, grid, storage."""
