"""Alignment of a whole-head template with a head: an affine driven by the brain, then SyN."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_interp.anatomical import ants_tools
from bids_interp.anatomical.ants_tools import Stage
from bids_interp.anatomical.brain_masks import foreground_mask

WORK_MM = 2.0
HEAD_MM = 165.0  # from the top of the head to below the brain
TOP_AREA_MM2 = 400.0
MARGIN_MM = 20.0  # around the brain, for SyN
NEAR_MM = 10.0  # rim around the brain that the second affine uses
RIM_MM = 4.0  # rim of skull kept around an isolated brain
GOOD_AGREEMENT = 0.6  # correlation that only a converged affine reaches
MIN_GAIN = 0.01
PITCHES = (-25.0, 25.0)  # degrees
_GC = 'GC[%s,%s,1,1,Regular,0.25]'
_CC = 'CC[%s,%s,1,2]'
_RIGID = Stage('Rigid[0.1]', _GC, '1000x500', '8x4', '3x2')
_AFFINE = Stage('Affine[0.1]', _GC, '1000x500x100', '8x4x2', '3x2x1')
_SYN = Stage('SyN[0.2,3,0]', _CC, '40x30x0', '4x2x1', '2x1x0')
_SYN_FAST = Stage('SyN[0.25,3,0]', _CC, '30x0', '4x1', '2x0')


@dataclass(frozen=True, eq=False)
class Scene:
    """A head and a whole-head template, as ANTs images.

    Attributes
    ----------
    native, low : ANTsImage
        The head on its own grid, and at 2 mm without its neck.
    head, mask, near : ANTsImage
        The template without its neck, its brain mask, and that mask with a rim.
    seed : int
        Seed of ANTs.
    folder : Path
        Folder of the transforms.
    """

    native: Any
    low: Any
    head: Any
    mask: Any
    near: Any
    seed: int
    folder: Path

    @classmethod
    def from_images(
        cls,
        img: nib.Nifti1Image,
        head: nib.Nifti1Image,
        mask: nib.Nifti1Image,
        seed: int,
        folder: Path,
    ) -> Scene:
        """Load images into ANTs."""
        brain = ants_tools.to_ants(mask)
        return cls(
            native=ants_tools.to_ants(img),
            low=without_neck(ants_tools.at_spacing(img, WORK_MM)),
            head=without_neck(ants_tools.to_ants(head)),
            mask=brain,
            near=brain.new_image_like(_grown(brain, NEAR_MM)),
            seed=seed,
            folder=folder,
        )

    def on_low(self, mask: np.ndarray) -> np.ndarray:
        """Resample a mask from the native grid to that of ``low``."""
        import ants

        native = self.native.new_image_like(mask.astype(np.float32))
        return ants.resample_image_to_target(native, self.low, interp_type='linear').numpy() > 0.5

    def mask_on_low(self, affine: str) -> np.ndarray:
        """Warp the template's mask to the grid of ``low``."""
        return warped_mask(self, [affine], self.low) > 0.5

    def brain_only(self, found: np.ndarray) -> Scene:
        """Return the scene with both brains only; the head's brain keeps a rim of skull.

        Registration relies on the edge between brain and skull, so the rim preserves it.
        """
        import ants

        coarse = self.low.new_image_like(self.on_low(found).astype(np.float32))
        return replace(
            self,
            low=self.low.new_image_like(self.low.numpy() * _grown(coarse, RIM_MM)),
            head=self.head * ants.resample_image_to_target(self.mask, self.head, 'linear'),
        )


def without_neck(image: Any) -> Any:
    """Crop an image below the head; the top of the head is found from the brightness.

    Registration starts from the centre of mass, which must not depend on how much of the neck and
    shoulders was scanned. The third axis points up, as in every conformed image.
    """
    import ants

    data = ndimage.gaussian_filter(image.numpy(), 2.0 / np.asarray(image.spacing))
    head = foreground_mask(data > 0.25 * np.percentile(data, 98))
    area = head.sum(axis=(0, 1)) * np.prod(image.spacing[:2])
    slices = np.flatnonzero(area > TOP_AREA_MM2)
    if slices.size == 0:
        return image
    bottom = max(0, int(slices[-1] - HEAD_MM / image.spacing[2]))
    upper = [int(n) for n in image.shape]
    return ants.crop_indices(image, [0, 0, bottom], upper)


def align(scene: Scene, *, thorough: bool = True) -> str:
    """Find the affine from the template to the head; return its file.

    The face and neck, or their remains after defacing, pull a whole-head registration off the
    brain. A second affine therefore uses only the brain and a rim around it. It is repeated while
    it improves, and restarted from other poses if it does not converge.

    Parameters
    ----------
    scene : Scene
        Head and template.
    thorough : bool
        Repeat and restart; otherwise return the first result.

    Returns
    -------
    str
        File of the affine with the highest correlation of the images within the rim.
    """
    found: list[tuple[float, str]] = []
    for start in _starts(scene):
        score = -1.0
        for _ in range(3 if thorough else 1):
            start = _affine(scene, [_AFFINE], start, near=True)
            before, score = score, agreement(scene, start)
            found.append((score, start))
            if score >= GOOD_AGREEMENT or score < before + MIN_GAIN:
                break
        if max(found)[0] >= GOOD_AGREEMENT or not thorough:
            break
    return max(found)[1]


def _starts(scene: Scene) -> Iterator[str]:
    """Yield whole-head registrations, the most likely first."""
    rigid = _affine(scene, [_RIGID], None)
    yield _affine(scene, [_AFFINE], rigid)
    yield rigid
    for pitch in PITCHES:
        start = ants_tools.pitched_start(scene.low, scene.head, pitch, scene.folder)
        yield _affine(scene, [_RIGID], start)


def _affine(
    scene: Scene, stages: Sequence[Stage], initial: str | None, *, near: bool = False
) -> str:
    with ants_tools.run_registration(
        scene.low,
        scene.head,
        stages,
        seed=scene.seed,
        initial=initial,
        moving_mask=scene.near if near else None,
    ) as (forward, _):
        kept = scene.folder / f'affine{len(list(scene.folder.iterdir()))}.mat'
        shutil.copy(forward[0], kept)
    return str(kept)


def agreement(scene: Scene, affine: str) -> float:
    """Return the correlation of head and template in and around the template's brain."""
    import ants

    template = ants.apply_transforms(scene.low, scene.head, [affine], 'linear').numpy()
    where = warped_mask(scene, [affine], scene.low, scene.near) > 0.5
    if where.sum() < 1000:
        return -1.0
    return float(np.corrcoef(template[where], scene.low.numpy()[where])[0, 1])


def deform(scene: Scene, affine: str, brain: np.ndarray, *, fast: bool = False) -> np.ndarray:
    """Register by SyN around the brain; return the warped mask on the native grid, 0 to 1.

    Parameters
    ----------
    scene : Scene
        Head and template.
    affine : str
        File of the initial affine.
    brain : ndarray of bool
        Brain on the grid of ``scene.low``; SyN is limited to its surroundings to save time.
    fast : bool
        Fewer iterations.
    """
    import ants

    if not brain.any():
        raise RuntimeError('the template does not overlap the image')
    margin = int(MARGIN_MM / WORK_MM)
    where = np.argwhere(brain)
    low = np.maximum(where.min(axis=0) - margin, 0)
    high = np.minimum(where.max(axis=0) + margin, brain.shape)
    fixed = ants.crop_indices(scene.low, [int(v) for v in low], [int(v) for v in high])
    stage = _SYN_FAST if fast else _SYN
    with ants_tools.run_registration(
        fixed, scene.head, [stage], seed=scene.seed, initial=affine
    ) as (forward, _):
        return warped_mask(scene, forward, scene.native)


def warped_mask(scene: Scene, transforms: list[str], target: Any, mask: Any = None) -> np.ndarray:
    """Warp the template's mask (or another mask on its grid) to a grid, interpolated linearly."""
    import ants

    mask = scene.mask if mask is None else mask
    return ants.apply_transforms(target, mask, transforms, 'linear').numpy()


def _grown(mask: Any, mm: float) -> np.ndarray:
    """Return the dilated mask of an ANTs image; float32, 0 or 1."""
    distance = ndimage.distance_transform_edt(mask.numpy() < 0.5, sampling=mask.spacing)
    return (distance <= mm).astype(np.float32)
