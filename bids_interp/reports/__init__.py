"""Figures and the HTML report of one T1w image.

Everything here works from the derivatives on disk, so that a report can be made again at any time
(``--reports-only``) and also when the processing of the image broke off.
"""

from __future__ import annotations

from bids_interp.reports.build import build_report
from bids_interp.reports.figures import draw_figures

__all__ = ['build_report', 'draw_figures']
