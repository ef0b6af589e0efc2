"""Injection of a known change into real scans."""
