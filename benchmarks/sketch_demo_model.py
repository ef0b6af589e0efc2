"""Replace the hashes of the training scans in the demonstration model by sketches.

    bids_interp BIDS_DIR DERIVATIVES participant
    python benchmarks/sketch_demo_model.py BIDS_DIR DERIVATIVES [--scans FILE ...]

Version 0.1.0 recognised training scans by salted hashes, one of which was of the participant's
label; all labels could be found by trying them. This script computes the sketch of each training
scan from its prepared brain, takes its folds from the hash of its voxels and writes ``config.json``
of the packaged model again. Weights do not change. It then prints the distances between the
sketches of different persons, and between other scans and the nearest sketches of the model (for
example of the same persons in another resolution).
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_interp.anatomical.prepared_brain import BrainOptions, prepare_brain
from bids_interp.anatomical.raw.conform import conform
from bids_interp.anatomical.registration import register_brain
from bids_interp.anatomical.templates import brain_template, head_template_name
from bids_interp.models.bundle.fingerprint import (
    image_fingerprint,
    salted,
    sketch_distance,
    subject_keys,
)
from bids_interp.models.bundle.reader import ModelBundle, default_bundle_path, load_bundle
from bids_interp.models.bundle.schema import CONFIG, TrainingScan
from bids_interp.models.explain.explainer import prepare_input
from bids_interp.spatial import Grid

#: Default of --random-seed.
SEED = 20210628


def main() -> None:
    """Rewrite the configuration once, and print distances."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('bids_dir', type=Path)
    parser.add_argument('derivatives', type=Path)
    parser.add_argument('--scans', type=Path, nargs='+', default=[], metavar='FILE')
    options = parser.parse_args()
    path = default_bundle_path()
    bundle = load_bundle(path)
    sketches = sketches_of(bundle, options.derivatives)
    if bundle.config.salt is not None:
        scans = sketched_scans(bundle, options.bids_dir, sketches)
        config = replace(bundle.config, training_scans=scans, salt=None, subjects=None)
        (path / CONFIG).write_text(config.to_json())
        print(f'{len(scans)} training scans; the hash of the model is now '
              f'{load_bundle(path).version_hash}.')  # fmt: skip
    pairs = [sketch_distance(a, b) for a, b in itertools.combinations(sketches.values(), 2)]
    low, middle, high = np.percentile(pairs, [0, 50, 100])
    print(f'{len(pairs)} pairs of persons: {low:.3f} to {high:.3f}, median {middle:.3f}')
    for scan in options.scans:
        sketch = sketch_of_scan(bundle, scan)
        known = load_bundle(path).config.training_scans or ()
        nearest = sorted(sketch_distance(sketch, one.sketch) for one in known)
        print(f'{scan.name}: nearest {nearest[0]:.3f}, second {nearest[1]:.3f}')


def sketch_of_scan(bundle: ModelBundle, path: Path) -> str:
    """Return the sketch of a scan, prepared as the participant level does."""
    image, _ = conform(path)
    options = BrainOptions(template=head_template_name(), seed=SEED)
    brain = prepare_brain(image, options, name=str(path)).brain
    template = brain_template(bundle.template)
    fit = register_brain(brain, template, name=str(path), threads=1, seed=SEED)
    data, grid = np.asarray(brain.dataobj, dtype=np.float32), Grid.from_image(brain, 'T1w')
    return bundle.sketch(prepare_input(data, grid, fit.native_to_template, bundle))


def sketches_of(bundle: ModelBundle, derivatives: Path) -> dict[str, str]:
    """Return the sketch of each prepared brain in a folder of derivatives, by participant."""
    sketches = {}
    for t1w in sorted(derivatives.glob('sub-*/anat/*_desc-preproc_T1w.nii.gz')):
        if '_space-' in t1w.name:
            continue
        stem = t1w.name.removesuffix('_desc-preproc_T1w.nii.gz')
        image = nib.load(t1w)
        mask = nib.load(t1w.with_name(f'{stem}_desc-brain_mask.nii.gz'))
        brain = image.get_fdata(dtype=np.float32) * (np.asarray(mask.dataobj) > 0)
        sidecar = t1w.with_name(f'{stem}_from-T1w_to-{bundle.template}_mode-image_xfm.json')
        registration = json.loads(sidecar.read_text())['Registration']
        matrix = np.array(registration['native_to_template'])
        image = prepare_input(brain, Grid.from_image(image, 'T1w'), matrix, bundle)
        sketches[stem.split('_')[0]] = bundle.sketch(image)
    return sketches


def sketched_scans(
    bundle: ModelBundle, bids_dir: Path, sketches: dict[str, str]
) -> tuple[TrainingScan, ...]:
    """Return the training scans with the folds that version 0.1.0 recorded for their voxels."""
    folds = dict(bundle.config.subjects or {})
    scans = []
    for source in sorted(bids_dir.glob('sub-*/anat/*_T1w.nii.gz')):
        name = source.name.split('_')[0]
        key, _ = subject_keys(image_fingerprint(source), '', '')
        scans.append(TrainingScan(sketches[name], folds[salted(str(bundle.config.salt), key)]))
    if 2 * len(scans) != len(folds):
        raise SystemExit(f'{bids_dir} does not hold all of the {len(folds) // 2} training scans.')
    return tuple(sorted(scans, key=lambda scan: scan.sketch))


if __name__ == '__main__':
    main()
