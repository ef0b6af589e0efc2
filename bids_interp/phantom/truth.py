"""Truth maps: names and sidecars, the same for phantoms and real brains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bids_interp.constants import SIGN

#: Files of a truth dataset that the BIDS schema does not define.
IGNORED = '*_logjacobian.*\n*_xfm.*\ntruth.tsv\n'


def truth_stem(direction: str, space: str | None = None) -> str:
    """Return the name of a truth map without the entities of its image and without extension.

    Examples
    --------
    >>> truth_stem('inject', 'MNI152NLin2009aSym')
    'space-MNI152NLin2009aSym_desc-truthinject_logjacobian'
    """
    return f'{f"space-{space}_" if space else ""}desc-truth{direction}_logjacobian'


def truth_sidecar(
    direction: str, severity: float, changes: Mapping[str, float], sources: list[str]
) -> dict[str, Any]:
    """Return the sidecar of a truth map.

    Parameters
    ----------
    direction : str
        ``'inject'`` or ``'remove'``.
    severity : float
        Factor on the velocity that the map belongs to.
    changes : mapping
        Relative volume change of each region at severity 1.
    sources : list of str
        BIDS URIs.
    """
    return {
        'Description': 'Exact log-Jacobian of the planted change in this subject',
        'Direction': direction,
        'Severity': round(severity, 4),
        'Changes': dict(changes),
        'Units': 'log(volume ratio)',
        'Sign': SIGN,
        'Sources': sources,
    }
