"""Networks: classifiers and simulators; no training."""
