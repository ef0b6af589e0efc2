"""Small datasets, and runs in them that nothing has disturbed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from faults.harness import Place
from helpers import cohorts, labelled_brains

LINEAR = 'plugin: Linear\n'
SUBJECTS = ('01', '02')


def _linear(root: Path) -> tuple[str, ...]:
    file = root / 'linear.yml'
    file.write_text(LINEAR)
    return '--use-plugin', str(file)


def participant(root: Path, template: nib.Nifti1Image, model: Path) -> Place:
    """Two stripped brains at 4 mm, and the smallest model."""
    root.mkdir(parents=True)
    data = np.asarray(template.dataobj)[1::4, 1::4, 1::4]
    affine = template.affine @ np.diag([4, 4, 4, 1.0])
    affine[:3, 3] = (template.affine @ [1, 1, 1, 1])[:3]
    for seed, label in enumerate(SUBJECTS):
        noise = np.random.default_rng(seed).normal(0, 0.02, data.shape) * (data > 0)
        values = np.clip(data / data.max() + noise, 0, None) * (data > 0) * 1000
        image = nib.Nifti1Image(values.astype(np.int16), affine)
        image.header.set_xyzt_units('mm', 'sec')
        folder = root / 'bids' / f'sub-{label}' / 'anat'
        folder.mkdir(parents=True)
        nib.save(image, folder / f'sub-{label}_T1w.nii.gz')
    description = {'Name': 'Two brains', 'BIDSVersion': '1.10.0', 'DatasetType': 'raw'}
    (root / 'bids' / 'dataset_description.json').write_text(json.dumps(description))
    shutil.copytree(model, root / 'model')
    options = (
        *('--model', str(root / 'model'), '--omp-nthreads', '1', '--nprocs', '2', '--offline'),
        *('--skip-bids-validation', '--output-spaces', 'T1w', *_linear(root)),
    )
    return Place(root, 'participant', options)


def group(root: Path) -> Place:
    """Derivatives of four subjects on an 8 mm grid."""
    labels = ['patient', 'control'] * 2
    cohorts.write_cohort(cohorts.Cohort(root, labels, expression={'patient': 0.6}))
    options = ('--nprocs', '2', '--permutations', '100', '--offline', *_linear(root))
    return Place(root, 'group', options)


def train(root: Path) -> Place:
    """Eight brains that an earlier run has prepared, and two folds of few steps."""
    root.mkdir(parents=True)
    labels = labelled_brains.labels(8)
    labelled_brains.make_dataset(root / 'bids', labelled_brains.template_brain(), labels)
    labelled_brains.prepare(root / 'bids', root / 'out', labels)
    options = (
        *('--label', 'group', '--positive', 'patient', '--preset', 'fast', '--folds', '2'),
        *('--nprocs', '2', '--omp-nthreads', '1', '--device', 'cpu', '--offline'),
        *('--skip-bids-validation', '--capacity', 'template', '--simulator-steps', '2'),
        *('--classifier', 'robust', '--classifier-steps', '26', '--resolution', '8'),
        *('--overwrite', *_linear(root)),
    )
    return Place(root, 'train', options)
