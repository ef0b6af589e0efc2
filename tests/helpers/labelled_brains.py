"""Made-up brains with a label, and what an earlier run would have left of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_interp.anatomical.templates import brain_template as load_template
from bids_interp.anatomical.templates import with_head_template
from bids_interp.bids.names import output_name, sidecar_name
from bids_interp.bids.read.prepared import FINGERPRINT, PREPARED_WITH, prepared_with
from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.models.bundle.fingerprint import image_fingerprint
from bids_interp.settings import Settings

TEMPLATE = 'MNI152NLin2009aSym'


def labels(count: int) -> list[str]:
    """Return the labels of a number of subjects."""
    return [f'{number:02d}' for number in range(1, count + 1)]


def template_brain() -> tuple[np.ndarray, np.ndarray]:
    """Brain of the model's template at 4 mm, and its affine."""
    image = load_template(TEMPLATE)
    affine = image.affine @ np.diag([4, 4, 4, 1.0])
    return np.asarray(image.dataobj)[::4, ::4, ::4], affine


def brain(template: np.ndarray, seed: int, is_patient: bool) -> np.ndarray:
    """A noisy copy; patients have a dark hole where a structure should be."""
    rng = np.random.default_rng(seed)
    scale = template / template.max()
    data = 1000 * scale * (1 + rng.normal(0, 0.03, template.shape))
    if is_patient:
        middle = [size // 2 for size in template.shape]
        data[tuple(slice(m - 4, m + 4) for m in middle)] *= 0.3
    return np.clip(data, 0, 3000).astype(np.int16)


def make_dataset(
    root: Path, template: tuple[np.ndarray, np.ndarray], subjects: Sequence[str]
) -> None:
    """Write a dataset in which every second subject is a patient."""
    data, affine = template
    rows = ['participant_id\tgroup\tsex']
    for index, label in enumerate(subjects):
        is_patient = index % 2 == 1
        folder = root / f'sub-{label}' / 'anat'
        folder.mkdir(parents=True)
        image = nib.Nifti1Image(brain(data, index, is_patient), affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        image.header.set_xyzt_units('mm')
        nib.save(image, folder / f'sub-{label}_T1w.nii.gz')
        group = 'patient' if is_patient else 'control'
        rows.append(f'sub-{label}\t{group}\t{"FM"[index // 2 % 2]}')
    (root / 'participants.tsv').write_text('\n'.join(rows) + '\n')
    description = {'Name': 'Made-up brains', 'BIDSVersion': '1.10.0', 'DatasetType': 'raw'}
    (root / 'dataset_description.json').write_text(json.dumps(description))
    (root / 'README').write_text('Brains of a template with noise; made by the tests.\n')


def prepare(bids: Path, out: Path, subjects: Sequence[str]) -> None:
    """Leave what an earlier run of the participant level would have left."""
    settings = Settings(bids, out)
    prepare_output(out, {'raw': bids})
    for label in subjects:
        source = bids / f'sub-{label}' / 'anat' / f'sub-{label}_T1w.nii.gz'
        image = nib.load(source)
        t1w, mask = (out / output_name(source, kind) for kind in ('preproc', 'mask'))
        ends = {'from': 'T1w', 'to': TEMPLATE}
        transform = out / output_name(source, 'transform', **ends)
        t1w.parent.mkdir(parents=True)
        data = image.get_fdata(dtype=np.float32)
        nib.save(nib.Nifti1Image(data, image.affine), t1w)
        nib.save(nib.Nifti1Image((data > 0).astype(np.uint8), image.affine), mask)
        transform.write_text('# of an earlier run\n')
        sidecar_name(t1w).write_text(
            json.dumps(
                {
                    PREPARED_WITH: prepared_with(with_head_template(settings)),
                    'Conformation': {FINGERPRINT: image_fingerprint(source)},
                }
            )
        )
        registration = {'Registration': {'native_to_template': np.eye(4).tolist()}}
        sidecar_name(transform).write_text(json.dumps(registration))
