"""Training of classifiers and simulators on a labelled cohort."""
