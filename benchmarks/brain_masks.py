"""Benchmark of brain masks with two head templates: pictures, volumes, overlap and time.

    python benchmarks/brain_masks.py BIDS_DIR [--templates TEMPLATEFLOW_HOME] [--out docs/images]

Every head is bias-corrected once. Its brain is extracted with the whole-head template in the
TemplateFlow folder (red outline) and with the embedded template (cyan). Writes one picture
``mask-<subject>.png`` per head and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import matplotlib as mpl
import nibabel as nib
import numpy as np

from bids_interp.anatomical.bias import correct_bias
from bids_interp.anatomical.brain_extraction import Extraction, extract_brain
from bids_interp.anatomical.raw.conform import conform
from bids_interp.anatomical.templates import strip_template
from bids_interp.constants import EMBEDDED_TEMPLATE

mpl.use('Agg')
import matplotlib.pyplot as plt

COLUMNS, MARGIN_MM, INCHES, DPI, GREYS = 5, 8, 2.0, 88, 14
COLOURS = ('#ff2020', '#20e0ff')


def draw(img: nib.Nifti1Image, masks: list[np.ndarray], path: Path) -> None:
    """Draw axial, coronal and sagittal slices through the brain with the outlines of masks."""
    data = np.asarray(img.dataobj)
    spacing = nib.affines.voxel_sizes(img.affine)
    places = np.argwhere(masks[0] | masks[-1])
    margin = np.ceil(MARGIN_MM / spacing).astype(int)
    low = np.maximum(places.min(axis=0) - margin, 0)
    high = np.minimum(places.max(axis=0) + margin + 1, data.shape)
    bright = np.percentile(data[masks[0]], 99.5)
    size = (INCHES * COLUMNS, INCHES * 3.3)
    figure, axes = plt.subplots(3, COLUMNS, figsize=size, facecolor='black')
    for row, axis in enumerate((2, 1, 0)):
        first, last = places.min(axis=0)[axis], places.max(axis=0)[axis]
        for column, share in enumerate(np.linspace(0.1, 0.88, COLUMNS)):
            window = [slice(a, b) for a, b in zip(low, high, strict=True)]
            window[axis] = int(first + share * (last - first))
            across, up = (a for a in range(3) if a != axis)
            place = axes[row, column]
            place.imshow(
                data[tuple(window)].T,
                origin='lower',
                cmap='gray',
                vmin=0,
                vmax=bright,
                aspect=spacing[up] / spacing[across],
            )
            for mask, colour in zip(masks, COLOURS, strict=False):
                outline = mask[tuple(window)].T
                if outline.any():
                    place.contour(outline, [0.5], colors=colour, linewidths=0.9)
            place.axis('off')
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor='black')
    plt.close(figure)
    _quantise(path)


def _quantise(path: Path) -> None:
    """Reduce a picture to grey levels and the two outline colours."""
    from PIL import Image

    greys = [(g, g, g) for g in np.linspace(0, 255, GREYS).astype(int)]
    pure = [mpl.colors.to_rgb(colour) for colour in COLOURS]
    tones = [tuple(int(255 * f * c) for c in rgb) for rgb in pure for f in (0.4, 0.7, 1.0)]
    palette = Image.new('P', (1, 1))
    palette.putpalette([int(v) for colour in greys + tones for v in colour])
    with Image.open(path) as image:
        quantised = image.convert('RGB').quantize(palette=palette, dither=Image.Dither.NONE)
    quantised.save(path, optimize=True)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice overlap of two masks."""
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


def extract(img: nib.Nifti1Image, name: str | None, threads: int) -> tuple[Extraction, float]:
    """Extract the brain with one template; also return the duration in seconds."""
    template = strip_template(name)
    start = time.monotonic()
    found = extract_brain(img, template, threads=threads)
    return found, time.monotonic() - start


def main() -> None:
    """Draw every head of a dataset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('bids_dir', type=Path)
    parser.add_argument('--templates', type=Path, help='TemplateFlow folder with a whole head')
    parser.add_argument('--out', type=Path, default=Path('docs/images'))
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args()
    if options.templates:
        os.environ['TEMPLATEFLOW_HOME'] = str(options.templates.resolve())
    print('| head | template | litres | embedded: litres | Dice | seconds |')
    print('|---|---|---|---|---|---|')
    for path in sorted(options.bids_dir.glob('sub-*/**/anat/*_T1w.nii*')):
        img, _ = conform(path)
        img = correct_bias(img, threads=options.threads)
        real, seconds = extract(img, None, options.threads)
        embedded, more = extract(img, EMBEDDED_TEMPLATE, options.threads)
        masks = [np.asarray(found.mask.dataobj) > 0.5 for found in (real, embedded)]
        subject = path.name.split('_')[0]
        draw(img, masks, options.out / f'mask-{subject}.png')
        print(
            f'| {subject} | {real.template} | {real.litres:.2f} | {embedded.litres:.2f} '
            f'| {overlap(*masks):.3f} | {seconds:.0f} + {more:.0f} |',
            flush=True,
        )


if __name__ == '__main__':
    main()
