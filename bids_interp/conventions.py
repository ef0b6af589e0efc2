"""Conventions that are written beside every output, each stated once."""

#: What the sign of a log-Jacobian map means.
SIGN = (
    'positive = local expansion from the observed to the simulated image; '
    'negative = contraction; volume change % = 100*(exp(logJ)-1)'
)
