"""Small files that come with the package: the demonstration model."""
