"""Checks of a registered brain: its orientation, its contrast, and which parts are missing."""
