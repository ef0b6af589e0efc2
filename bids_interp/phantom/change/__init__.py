"""Changes with an exactly known log-Jacobian: planted atrophy, shams, random anatomy."""
