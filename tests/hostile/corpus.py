"""The whole corpus of hostile inputs."""

from __future__ import annotations

from hostile import bundles, exports, images, tables, texts
from hostile.case import READERS

CASES = {
    case.name: case for module in (images, tables, texts, bundles, exports) for case in module.CASES
}

#: Kind of each reader for the table of the documents.
KINDS = {
    'image': 'NIfTI files and gzip streams',
    'mask': 'brain masks of other tools',
    'table': 'tables of participants',
    'description': 'JSON: `dataset_description.json`',
    'filter': 'JSON: `--bids-filter-file`',
    'card': 'JSON: classifier cards',
    'prediction': 'JSON: predictions of earlier runs',
    'settings': 'TOML: `--config-file`',
    'plugin': 'YAML: `--use-plugin`',
    'bundle': 'model bundles: configuration, weights, links',
    'archive': 'archives of model bundles',
    'export': 'classifiers as `.pt2`',
}


def document_rows() -> list[str]:
    """Return the rows of the table in docs/hostile-inputs.md."""
    rows = []
    for reader, kind in KINDS.items():
        cases = [case for case in CASES.values() if case.reader == reader]
        n_read = sum(not case.refused for case in cases)
        error = READERS[reader].error
        rows.append(
            f'| {kind} | {len(cases)} | {n_read} | `{error.__name__}` | {error.exit_code} |'
        )
    return rows
