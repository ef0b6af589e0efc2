"""Statistics of the group level: expression score, linear model, permutation."""
