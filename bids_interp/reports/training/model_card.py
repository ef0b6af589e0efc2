"""Model card: README.md of a trained bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bids_interp.models.bundle.schema import BundleConfig, FoldConfig

#: Text for a model without a licence.
NO_LICENSE = 'not stated'


def model_card(config: BundleConfig) -> str:
    """Return the model card of a bundle; every number comes from its configuration.

    Parameters
    ----------
    config : BundleConfig
        Configuration of the bundle.

    Returns
    -------
    str
        Markdown.
    """
    import jinja2

    from bids_interp.reports.common.sections import PAGE
    from bids_interp.reports.training.pattern_text import (
        gate_head,
        gate_rows,
        pattern_head,
        pattern_rows,
        unwarranted_text,
    )
    from bids_interp.reports.training.sanity_text import sanity_summary
    from bids_interp.reports.training.training_text import (
        choice_rows,
        left_out_text,
        limits_of,
        map_rows,
        merit_rows,
        metric_rows,
        model_details,
        verdict_text,
    )

    metrics = config.metrics
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=False,  # noqa: S701  # it is Markdown; cells are escaped below
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=_one_line,
    )
    environment.filters['cell'] = _cell
    return environment.get_template('model_card.md.j2').render(
        name=config.name,
        demonstration=config.demonstration,
        description=config.description or '',
        license=config.license or NO_LICENSE,
        details=model_details(config),
        verdict=verdict_text(metrics),
        warning=unwarranted_text(metrics),
        pattern=pattern_head(metrics),
        patterns=pattern_rows(config),
        gate=gate_head(metrics),
        gates=gate_rows(config),
        rows=metric_rows(metrics),
        choices=choice_rows(metrics),
        confounds=merit_rows(metrics)[1:],
        left_out=left_out_text(metrics),
        maps=map_rows(metrics.get('simulator') or metrics.get('maps')),
        sanity=sanity_summary(metrics),
        folds=fold_size_rows(config.folds),
        limits=limits_of(metrics),
        target=config.target,
    )


def fold_size_rows(folds: Sequence[FoldConfig]) -> list[dict[str, str]]:
    """Return numbers of images and test AUC of each fold, if all folds have them."""
    names = {
        'n_train': 'training',
        'n_validation': 'validation',
        'n_test': 'test',
        'test_auc': 'test AUC',
    }
    rows = []
    for index, fold in enumerate(folds):
        row = {'fold': str(index)}
        for key, name in names.items():
            value = getattr(fold.metrics, key)
            if value is not None:
                row[name] = f'{value:.2f}' if isinstance(value, float) else str(value)
        rows.append(row)
    same = {tuple(row) for row in rows}
    return rows if len(same) == 1 and len(rows[0]) > 1 else []


def _one_line(value: Any) -> Any:
    """Join lines, because a new line could start a heading or a table."""
    return ' '.join(value.split()) if isinstance(value, str) and '\n' in value else value


def _cell(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return str(text).replace('|', '\\|')
