"""Reports: figures and HTML pages of a scan, a training and a group.

Everything here works from the derivatives on disk, so that a report can be made again at any time
(``--reports-only``) and also when the processing of the image broke off.
"""

from __future__ import annotations

from bids_interp.reports.scan.scan_figures import draw_figures
from bids_interp.reports.scan.scan_report import build_report

__all__ = ['build_report', 'draw_figures']
