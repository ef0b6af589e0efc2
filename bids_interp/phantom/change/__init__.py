"""Changes with an exactly known log-Jacobian: atrophy, shams, random anatomy."""
