"""Image checks before processing: whether a T1w image is usable, and a summary of it."""

from __future__ import annotations

from dataclasses import dataclass

from bids_interp.bids.read.query import T1wRecord


@dataclass(frozen=True)
class ImageSummary:
    """Summary of an image for the preflight table.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along R, A and S.
    voxel_size : tuple of float
        Voxel size in mm along R, A and S.
    orientation : str
        Axis codes of the file, such as ``LAS``.
    brain : str
        ``given`` (a mask from derivatives), ``stripped`` (nothing to extract) or ``extract``.
    notes : tuple of str
        Remarks for the user.
    """

    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    orientation: str
    brain: str
    notes: tuple[str, ...] = ()


def inspect_image(
    record: T1wRecord, skull_strip: str, memory_gb: float | None = None
) -> ImageSummary:
    """Check an image as the anatomical workflow does, and return its summary.

    Parameters
    ----------
    record : T1wRecord
        The image.
    skull_strip : {'auto', 'force', 'skip'}
        Brain extraction, as in the settings.
    memory_gb : float, optional
        Memory in GB that may be used.

    Raises
    ------
    ImageError
        If the image, or the preprocessed image that replaces it, cannot be used.
    """
    from bids_interp.anatomical.raw.claimed_size import check_claims
    from bids_interp.anatomical.raw.conform import conform
    from bids_interp.anatomical.strip_evidence import is_stripped

    notes = []
    image, report = conform(record.path, memory_gb)
    if record.derivative_t1w is not None:
        image, report = conform(record.derivative_t1w, memory_gb)
        notes.append(f'uses {record.derivative_t1w}')
    if record.derivative_mask is not None and skull_strip != 'force':
        check_claims(record.derivative_mask, memory_gb)
        brain = 'given'
        notes.append(f'uses {record.derivative_mask}')
    elif skull_strip == 'auto':
        brain = 'stripped' if is_stripped(image) else 'extract'
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
