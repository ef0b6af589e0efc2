"""Networks: classifiers and simulators, without their training."""
