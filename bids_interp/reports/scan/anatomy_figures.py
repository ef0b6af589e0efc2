"""Figures of the preprocessing: brain mask, registration and input of the classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bids_interp.bids.read.scan_files import MASK, ScanFiles
from bids_interp.reports.common.montage import Row, Tile, draw_rows, sides_of
from bids_interp.reports.common.palette import MASK_LINE, TEMPLATE_LINE, TISSUE_LINE
from bids_interp.reports.common.volumes import (
    DISPLAY_SPACING,
    Volume,
    bounding_box,
    grey,
    load_like,
    load_mask,
    load_volume,
    spread_slices,
)
from bids_interp.spatial.mask import brain_voxels

#: Slices of each plane, chosen for rows of nearly the same height.
COUNTS = {'axial': 7, 'coronal': 7, 'sagittal': 6}


def slice_rows(
    picture: np.ndarray,
    volume: Volume,
    mask: np.ndarray,
    outlines: list[tuple[np.ndarray, float, str]],
    counts: dict[str, int],
) -> list[Row]:
    """Return rows of evenly spaced slices with the same outlines on each."""
    shown = Volume(picture, volume.grid)
    rows = []
    for plane, count in counts.items():
        tiles = []
        for index in spread_slices(mask, plane, count):
            lines = [
                (Volume(values, volume.grid).cut(plane, index), level, colour)
                for values, level, colour in outlines
            ]
            text = f'{volume.slice_label(plane, index)} mm'
            tiles.append(Tile(shown.cut(plane, index), text, sides_of(plane), lines))
        rows.append(Row('', tiles))
    return rows


def draw_mask(files: ScanFiles) -> Path | None:
    """Draw the preprocessed scan with the outline of its brain mask."""
    scan = files.native('desc-preproc_T1w.nii.gz')
    brain_mask = files.native(MASK)
    if scan is None:
        return None
    volume = load_volume(scan, DISPLAY_SPACING)
    if brain_mask is None:
        inside = brain_voxels(volume.data)
        outlines = []
    else:
        values = load_like(brain_mask, volume, 'nearest').data
        inside = values > 0.5
        outlines = [(values, 0.5, MASK_LINE)]
    # A wide margin shows skull or eyes inside the mask and brain outside it.
    box = bounding_box(inside, margin=int(14 / DISPLAY_SPACING))
    volume = volume.crop(box)
    picture = grey(volume.data, inside[box])
    outlines = [(values[box], level, colour) for values, level, colour in outlines]
    rows = slice_rows(picture, volume, inside[box], outlines, COUNTS)
    return draw_rows(rows, files.figure('mask', '.png'))


def _template_images(name: str, like: Volume) -> tuple[np.ndarray, np.ndarray] | None:
    """T1w brain and white matter of the embedded MNI template on a grid; None in other spaces."""
    if not name.startswith('MNI'):
        return None
    from nilearn.datasets import load_mni152_template, load_mni152_wm_template
    from nilearn.image import resample_img

    shape = {'target_affine': like.grid.affine, 'target_shape': like.grid.shape}
    images = []
    for image in (load_mni152_template(resolution=1), load_mni152_wm_template(resolution=1)):
        moved = resample_img(image, interpolation='linear', copy_header=False, **shape)
        images.append(np.nan_to_num(moved.get_fdata(dtype=np.float32)))
    return images[0], images[1]


def draw_registration(files: ScanFiles) -> Path | None:
    """Draw the brain in template space and the template, both with the template's outlines."""
    brain = files.template('desc-brain_T1w.nii.gz')
    if brain is None:
        return None
    volume = load_volume(brain)
    own = load_mask(files.mask_of(brain), volume)
    inside = own.copy()
    template = _template_images(files.template_name, volume)
    if template is not None:
        inside |= brain_voxels(template[0])
    box = bounding_box(inside, margin=3)
    volume = volume.crop(box)
    own = own[box]
    if template is None:
        rows = slice_rows(grey(volume.data, own), volume, own, [], {'axial': 6, 'coronal': 6})
        return draw_rows(rows, files.figure('registration', '.png'))
    head, white = template[0][box], template[1][box]
    outlines = [
        (head / max(float(head.max()), 1e-6), 0.12, TEMPLATE_LINE),
        (white, 0.5, TISSUE_LINE),
    ]
    counts = {'axial': 6, 'coronal': 6}
    ours = slice_rows(grey(volume.data, own), volume, head > 0, outlines, counts)
    theirs = slice_rows(grey(head, head > 0), volume, head > 0, outlines, counts)
    rows = []
    for upper, lower in zip(ours, theirs, strict=True):
        upper.heading, lower.heading = 'This scan', 'Template'
        rows += [upper, lower]
    return draw_rows(rows, files.figure('registration', '.png'))


def draw_classifier_input(files: ScanFiles) -> Path | None:
    """Draw the voxels of the image on the grid of the model."""
    path = files.template('desc-input_T1w.nii.gz', 'model')
    if path is None:
        return None
    volume = load_volume(path)
    # The model's input is normalised; its background is the most frequent value.
    background = float(np.median(volume.data[:2]))
    inside = np.abs(volume.data - background) > 1e-4
    box = bounding_box(inside, margin=1)
    volume = volume.crop(box)
    picture = np.where(inside[box], grey(volume.data - volume.data.min(), inside[box]), 0)
    # Blocks instead of smooth pictures show the detail that the classifier can use.
    blocks = max(1, round(3 * float(volume.grid.spacing[0])))
    rows = slice_rows(picture, volume, inside[box], [], {'axial': 9})
    for row in rows:
        for tile in row.tiles:
            tile.picture = np.kron(tile.picture, np.ones((blocks, blocks), np.float32))
    return draw_rows(rows, files.figure('input', '.png'))
