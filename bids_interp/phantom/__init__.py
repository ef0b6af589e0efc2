"""Everything with a known truth: coarse regions, planted atrophy, random anatomy, whole heads."""
