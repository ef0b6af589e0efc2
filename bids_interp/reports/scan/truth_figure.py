"""Truth figure: the planted change of a simulated scan beside the map of the scan."""

from __future__ import annotations

from pathlib import Path

from bids_interp.bids.read.scan_files import ScanFiles, read_json
from bids_interp.constants import DIRECTIONS
from bids_interp.evaluation.scores import ncc
from bids_interp.phantom.truth import truth_stem
from bids_interp.reports.common.montage import draw_rows
from bids_interp.reports.common.palette import SignedScale
from bids_interp.reports.common.volumes import load_like
from bids_interp.reports.scan.change_figures import Changes
from bids_interp.reports.scan.template_rows import changes_in_template, map_row

#: Headings of the rows.
TRUTH = 'Planted truth, {verb}: this tissue shrinks (blue) or grows (red)'
OURS = 'Map of this scan; correlation with the truth inside the brain (NCC) {score:.2f}'
VERBS = {'inject': 'injected', 'remove': 'removed'}


def truth_path(files: ScanFiles, direction: str) -> Path | None:
    """Return the truth of a scan in template space, if its dataset was simulated.

    Parameters
    ----------
    files : ScanFiles
        Derivatives of the scan. ``DatasetLinks`` of their dataset_description.json leads to the
        input dataset, which holds ``derivatives/truth`` if it was made by
        ``bids_interp_tools phantom``, ``inject`` or ``demo``.
    direction : str
        ``'inject'`` or ``'remove'``.
    """
    links = read_json(files.output_dir / 'dataset_description.json').get('DatasetLinks', {})
    if not files.template_name or not links.get('raw'):
        return None
    folder = files.anatomical.relative_to(files.output_dir)
    stem = f'{files.prefix}_{truth_stem(direction, files.template_name)}'
    path = files.output_dir / links['raw'] / 'derivatives' / 'truth' / folder / f'{stem}.nii.gz'
    return path if path.is_file() else None


def draw_truth(files: ScanFiles, changes: Changes | None) -> Path | None:
    """Draw the planted truth and our map on the same slices, with one colour scale.

    Returns
    -------
    pathlib.Path or None
        None if the scan has no truth, or no map of the direction of the truth.
    """
    found = {name: path for name in DIRECTIONS if (path := truth_path(files, name)) is not None}
    shown = changes_in_template(files, changes) if found else None
    if shown is None:
        return None
    truths = {
        direction: load_like(found[direction], shown.brain).data * shown.inside
        for direction in shown.maps.keys() & found.keys()
    }
    if not truths:
        return None
    both = [*truths.values(), *(shown.maps[direction] for direction in truths)]
    scale = SignedScale.fit(*(values[shown.inside] for values in both))
    rows = []
    for direction, truth in truths.items():
        rows.append(map_row(shown, truth, scale, TRUTH.format(verb=VERBS[direction])))
        score = ncc(truth, shown.maps[direction], shown.inside)
        rows.append(map_row(shown, shown.maps[direction], scale, OURS.format(score=score)))
    return draw_rows(rows, files.figure('truth', '.png'), scale)
