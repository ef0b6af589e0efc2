"""Report of one T1w image: a single self-contained HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bids_interp.bids.read.scan_files import COUNTERFACTUAL, ScanFiles, parse_number
from bids_interp.constants import DIRECTIONS, VOLUME_SHARE_FLOOR
from bids_interp.version import __version__


def build_report(
    output_dir: str | Path,
    prefix: str,
    *,
    errors: Iterable[Mapping[str, Any]] = (),
    methods: str = '',
    run_uuid: str = '',
) -> Path:
    """Write the report of one T1w image from its derivatives.

    The report can be made at any time, also if the processing of the image failed; it then says
    what is missing. It shows the figures in ``sub-<label>/figures``, see
    :func:`bids_interp.reports.draw_figures`.

    Parameters
    ----------
    output_dir : path
        Root of the derivatives.
    prefix : str
        Source entities of the image, without suffix: ``sub-01_ses-a_run-1``.
    errors : iterable of mapping
        Errors of this image, see :func:`bids_interp.reports.common.crashes.describe_crash`.
    methods : str
        Methods text in Markdown with ``[@key]`` citations; ``logs/CITATION.md`` where empty.
    run_uuid : str
        Identifier of the run.

    Returns
    -------
    pathlib.Path
        ``<output_dir>/<prefix>.html``, written atomically.

    Raises
    ------
    ImageError
        If predictions or tables cannot be read and ``errors`` is empty.
    """
    from bids_interp.reports.common.crashes import describe_crashes
    from bids_interp.reports.common.montage import write_bytes
    from bids_interp.reports.common.palette import GROWS, SHRINKS
    from bids_interp.reports.common.sections import PAGE, collect_sections
    from bids_interp.reports.scan.region_changes import read_regions
    from bids_interp.reports.scan.saliency_figure import listed_methods
    from bids_interp.reports.scan.summary import summarise_scan

    files = ScanFiles(Path(output_dir), prefix)
    errors = list(errors)
    damaged = files.damaged()
    if damaged and not errors:
        # A page without this error would look complete.
        raise damaged[0]
    summary = summarise_scan(files)
    prediction = files.read_prediction()
    class_names = {'POSITIVE': summary.positive, 'NEGATIVE': summary.negative}
    page = html_environment(PAGE).get_template('report.html.j2')
    content = page.render(
        prefix=prefix,
        title=_title(files),
        summary=summary,
        sections=collect_sections(files, class_names),
        regions=_region_rows(read_regions(files)),
        atlas=prediction.atlas if prediction and prediction.atlas and files.regions else '',
        numbers=_counterfactual_rows(files),
        remeasured=(prediction.remeasured or {}) if prediction else {},
        skipped_maps=listed_methods(files).get('Skipped', []),
        crashes=describe_crashes(errors),
        methods=_methods_html(files, methods),
        style=(PAGE / 'style.css').read_text(encoding='utf-8'),
        version=__version__,
        run_uuid=run_uuid,
        floor=VOLUME_SHARE_FLOOR,
        colours={'shrinks': SHRINKS, 'grows': GROWS},
    )
    return write_bytes(files.report, content.encode('utf-8'))


def html_environment(folder: Path) -> Any:
    """Return the environment of the page templates: text is escaped, undefined names are errors."""
    import jinja2

    from bids_interp.reports.common.content_policy import content_policy

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals['content_policy'] = content_policy
    return environment


def _title(files: ScanFiles) -> str:
    """Title of the scan, with its entities spelled out."""
    names = {'sub': 'subject', 'ses': 'session', 'acq': 'acquisition', 'rec': 'reconstruction'}
    names |= {'ce': 'contrast agent'}
    parts = [f'{names.get(key, key)} {value}' for key, value in files.entities.items()]
    return ', '.join(parts)[:1].upper() + ', '.join(parts)[1:]


def _methods_html(files: ScanFiles, methods: str) -> str:
    from bids_interp.boilerplate.methods import render_html

    if not methods:
        stored = files.output_dir / 'logs' / 'CITATION.md'
        methods = stored.read_text(encoding='utf-8') if stored.exists() else ''
    return render_html(methods) if methods else ''


def _region_rows(changes: list[Any]) -> list[dict[str, Any]]:
    """One row per region with the changes in percent, strongest first."""
    rows: dict[str, dict[str, Any]] = {}
    for change in changes:
        row = rows.setdefault(change.label, {'label': change.label, 'inject': None, 'remove': None})
        row[change.direction] = change.volume_change_percent
    if not rows:
        return []
    largest = max(abs(change.volume_change_percent) for change in changes) or 1.0
    for row in rows.values():
        for direction in DIRECTIONS:
            value = row[direction]
            row[f'{direction}_width'] = 0 if value is None else round(50 * abs(value) / largest, 1)
    ordered = sorted(rows.values(), key=lambda row: -abs(row['inject'] or row['remove'] or 0))
    return [row for row in ordered if max(abs(row['inject'] or 0), abs(row['remove'] or 0)) >= 0.05]


#: Columns of the table of numbers: name in the file, heading, format.
_NUMBERS = (
    ('probability', 'Probability of “{positive}”', '{:.2f}'),
    ('shift', 'Shift of the logit', '{:+.2f}'),
    ('shift_over_class_gap', 'Shift / class gap', '{:+.2f}'),
    ('flipped', 'Flipped to the target class', '{}'),
    ('dose_monotonicity', 'Monotone dose steps', '{:.0%}'),
    ('transfer_shift_over_class_gap', 'Shift / class gap, other folds', '{:+.2f}'),
    ('transfer_flipped', 'Flipped, other folds', '{:.0%}'),
    ('volume_share', 'Volume share', '{:.2f}'),
    ('mean_abs_log_jacobian', 'Mean |log-Jacobian|', '{:.3f}'),
    ('displacement_max_mm', 'Largest displacement (mm)', '{:.2f}'),
    ('reversibility_rmse', 'Reversibility error', '{:.3g}'),
    ('composition_rmse_mm', 'Half the dose twice: difference (mm)', '{:.2g}'),
    ('identity_error', 'Error at dose 0', '{:.2g}'),
    ('realism_z', 'Distance from training images (SD)', '{:.2f}'),
    ('realism_z_observed', 'Distance of the scan (SD)', '{:.2f}'),
    ('n_folded', 'Folded voxels', '{:.0f}'),
)


def _counterfactual_rows(files: ScanFiles) -> dict[str, list[Any]]:
    """Headings and rows of the table of numbers, if there is one."""
    table = files.table(COUNTERFACTUAL)
    if not table:
        return {}
    positive = files.target.positive
    used = [column for column in _NUMBERS if column[0] in table[0]]
    names = {'inject': 'injected', 'remove': 'removed'}
    rows = []
    for row in table:
        simulation = f'{names.get(row["direction"], row["direction"])}, dose {row["dose"]}'
        cells = []
        for name, _, form in used:
            value = parse_number(row[name])
            yes_no = {'true': 'yes', 'false': 'no'}.get(row[name].lower(), 'n/a')
            low = name == 'volume_share' and value is not None and value < VOLUME_SHARE_FLOOR
            cells.append((name, form.format(value) if value is not None else yes_no, low))
        rows.append({'simulation': simulation, 'cells': cells})
    headings = [heading.format(positive=positive) for _, heading, _ in used]
    return {'headings': headings, 'rows': rows}
