"""From a labelled cohort to trained classifiers and simulators."""
