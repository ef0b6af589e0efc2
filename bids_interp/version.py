"""Version of the package, free of imports."""

__version__ = '0.1.0'
