"""Version of the package, free of imports."""

__version__ = '0.2.0.dev0'
