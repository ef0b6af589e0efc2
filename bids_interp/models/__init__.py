"""Models: bundles, networks and the explanation of one subject, with torch and nibabel only."""
