"""See what a classifier of brain MRI has learned: simulated atrophy and log-Jacobian maps.

The three functions that a notebook needs are here; they are imported when they are first used, so
that ``import bids_interp`` stays quick.

>>> import bids_interp
>>> sorted(bids_interp.__all__)
['__version__', 'explain', 'load_model', 'log_jacobian']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bids_interp.version import __version__

if TYPE_CHECKING:
    from bids_interp.models.bundle.reader import load_bundle as load_model
    from bids_interp.models.explain.explainer import explain
    from bids_interp.spatial.jacobian import log_jacobian

__all__ = ['__version__', 'explain', 'load_model', 'log_jacobian']

_EXPORTS = {
    'explain': ('bids_interp.models.explain.explainer', 'explain'),
    'load_model': ('bids_interp.models.bundle.reader', 'load_bundle'),
    'log_jacobian': ('bids_interp.spatial.jacobian', 'log_jacobian'),
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module, attribute = _EXPORTS[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
