"""What one T1w image says of itself, before it is processed."""

from __future__ import annotations

from dataclasses import dataclass

from bids_interp.bids.read.query import T1wRecord


@dataclass(frozen=True)
class ImageSummary:
    """Facts for the preflight table.

    Parameters
    ----------
    shape : tuple of int
        Voxels along R, A and S.
    voxel_size : tuple of float
        In mm, along R, A and S.
    orientation : str
        Axis codes of the file, such as ``LAS``.
    brain : str
        ``given`` (a mask from derivatives), ``stripped`` (nothing to extract) or ``extract``.
    notes : tuple of str
        What the user should know.
    """

    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    orientation: str
    brain: str
    notes: tuple[str, ...] = ()


def inspect_image(record: T1wRecord, skull_strip: str) -> ImageSummary:
    """Read and check one image, with the checks of the anatomical workflow.

    Parameters
    ----------
    record : T1wRecord
        The image.
    skull_strip : {'auto', 'force', 'skip'}
        As in the settings.

    Raises
    ------
    ImageError
        If it, or the preprocessed image to be used in its place, cannot be used.
    """
    from bids_interp.anatomical.conform import conform
    from bids_interp.anatomical.stripped import stripped_evidence

    notes = []
    image, report = conform(record.path)
    if record.derivative_t1w is not None:
        image, report = conform(record.derivative_t1w)
        notes.append(f'uses {record.derivative_t1w}')
    if record.derivative_mask is not None and skull_strip != 'force':
        brain = 'given'
        notes.append(f'uses {record.derivative_mask}')
    elif skull_strip == 'auto':
        brain = 'stripped' if stripped_evidence(image).stripped else 'extract'
    else:
        brain = 'extract' if skull_strip == 'force' else 'stripped'
    first, second, third = report.shape
    width, depth, height = report.voxel_sizes
    return ImageSummary(
        (first, second, third),
        (width, depth, height),
        report.orientation,
        brain,
        (*report.warnings, *notes),
    )
