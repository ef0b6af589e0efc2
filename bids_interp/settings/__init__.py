"""Settings of one run: frozen dataclasses that are passed explicitly and kept as TOML."""

from __future__ import annotations

from bids_interp.settings.app import (
    LEVELS,
    NATIVE_SPACE,
    SKULL_STRIP,
    TEMPLATE_SPACE,
    Settings,
    parse_toml,
)

__all__ = [
    'LEVELS',
    'NATIVE_SPACE',
    'SKULL_STRIP',
    'TEMPLATE_SPACE',
    'Settings',
    'parse_toml',
]
