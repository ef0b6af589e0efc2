"""Responses of the classifiers to the simulations, summarised over subjects."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from bids_interp.bids.read.dose_response import by_dose, read_response
from bids_interp.bids.read.scan_files import ScanFiles
from bids_interp.bids.write.atomic import Cell
from bids_interp.bids.write.sidecars import Column
from bids_interp.group.analysis import GroupAnalysis

RESPONSE_COLUMNS: dict[str, Column] = {
    'group': {'Description': 'Group; "all" stands for all subjects.'},
    'dose': {
        'Description': 'Dose: negative for remove, 0 for the observed image, positive for inject.',
        'Units': '1',
    },
    'n': {'Description': 'Number of subjects.'},
    'probability': {
        'Description': 'Mean probability over subjects (of the mean over folds).',
        'Units': '1',
    },
    'probability_sd': {
        'Description': 'Standard deviation of the probability between subjects.',
        'Units': '1',
    },
    'logit': {'Description': 'Mean logit over subjects.', 'Units': '1'},
    'logit_sd': {'Description': 'Standard deviation of the logit between subjects.', 'Units': '1'},
}


def response_rows(analysis: GroupAnalysis) -> list[dict[str, Cell]]:
    """Return the mean dose response of all subjects and of each group."""
    groups = analysis.groups
    values: dict[tuple[str, float], list[tuple[float, float]]] = defaultdict(list)
    for scan in analysis.included:
        rows = read_response(ScanFiles(analysis.output_dir, scan.prefix))
        doses, logits = by_dose(rows, 'logit')
        _, probabilities = by_dose(rows, 'probability')
        if len(probabilities) != len(doses):
            # A regression has no probability.
            probabilities = np.full_like(logits, np.nan)
        for dose, chance, logit in zip(doses, probabilities, logits, strict=True):
            for group in dict.fromkeys(('all', groups.get(scan.prefix, 'all'))):
                values[group, float(dose)].append((float(chance.mean()), float(logit.mean())))
    table = []
    for group, dose in sorted(values, key=lambda key: (key[0] != 'all', *key)):
        found = np.array(values[group, dose])
        sd = found.std(axis=0, ddof=1) if len(found) > 1 else (np.nan, np.nan)
        mean = found.mean(axis=0)
        table.append(
            {
                'group': group,
                'dose': dose,
                'n': len(found),
                'probability': mean[0],
                'probability_sd': sd[0],
                'logit': mean[1],
                'logit_sd': sd[1],
            }
        )
    return table


def logit_rows(analysis: GroupAnalysis) -> list[dict[str, Cell]]:
    """Return the mean logit of each subject, observed and after each simulation."""
    groups = analysis.groups
    rows = []
    for scan in analysis.included:
        prediction = scan.prediction
        observed = prediction.observed.logit_mean if prediction else None
        simulated = prediction.simulated if prediction else {}
        after = {name: answer.logit_mean for name, answer in simulated.items()}
        row = {'image': scan.prefix, 'group': groups.get(scan.prefix, 'all'), 'observed': observed}
        rows.append({**row, **after})
    return rows
