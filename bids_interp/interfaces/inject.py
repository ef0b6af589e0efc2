"""Interface that plants a change into one scan and writes its replicates."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    OutputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from bids_interp.bids.write.atomic import write_json
from bids_interp.bids.write.injected import TRUTH
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.interfaces.model_inputs import load_image, load_matrix

if TYPE_CHECKING:
    from bids_interp.phantom.change.atrophy import AtrophyField
    from bids_interp.phantom.inject.planted_scan import PlantedScan
    from bids_interp.phantom.inject.warps import ReplicateWarp
    from bids_interp.spatial import Grid

#: Version of the method; raise it if the same inputs give other images.
_METHOD = 1


class _InjectInputSpec(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc='source image, resampled once')
    brain_mask = File(exists=True, mandatory=True, desc='its brain mask, 0 and 1')
    native_to_template = File(exists=True, mandatory=True, desc='JSON of RegisterBrain')
    atrophy = File(exists=True, mandatory=True, desc='NPZ of the planned change')
    replicates = traits.List(traits.Dict, mandatory=True, desc='replicates to make')
    seed = traits.Int(mandatory=True, desc='seed')
    null = traits.Bool(False, usedefault=True, desc='patients get a sham, too')
    anatomy_mm = traits.Float(mandatory=True, desc='size of the random anatomy in mm')
    entities = traits.Dict(mandatory=True, desc='entities of the source image')
    sidecar = traits.Dict(desc='metadata of the source image')
    out_dir = Directory(mandatory=True, desc='root of the output dataset')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of PyTorch')


class _InjectOutputSpec(TraitedSpec):
    out_files = OutputMultiObject(File(exists=True), desc='images written')


class Inject(SimpleInterface):
    """Plant a change into one scan; existing replicates are kept."""

    input_spec = _InjectInputSpec
    output_spec = _InjectOutputSpec
    # Someone may have removed images since the last run with this work directory.
    _always_run = True

    def _run_interface(self, runtime):
        import torch

        from bids_interp.phantom.inject.assignment import Replicate
        from bids_interp.phantom.inject.planted_scan import load_change

        torch.set_num_threads(self.inputs.num_threads)
        atrophy = load_change(self.inputs.atrophy)
        written = []
        for content in self.inputs.replicates:
            replicate = Replicate(**content)
            files = ReplicateFiles(
                Path(self.inputs.out_dir), self.inputs.entities, replicate.label, atrophy.grid.space
            )
            digest = self._digest(content)
            if not files.are_complete(digest):
                self._make(atrophy, replicate, files, digest)
            written.append(str(files.image))
        self._results['out_files'] = written
        return runtime

    def _digest(self, replicate: dict[str, Any]) -> str:
        """Digest of everything that determines a replicate."""
        total = hashlib.sha256()
        for name in ('t1w', 'brain_mask', 'native_to_template', 'atrophy'):
            total.update(hashlib.sha256(Path(getattr(self.inputs, name)).read_bytes()).digest())
        inputs = self.inputs
        rest = [_METHOD, replicate, inputs.seed, inputs.null, inputs.anatomy_mm, inputs.sidecar]
        total.update(json.dumps(rest, sort_keys=True, default=str).encode())
        return total.hexdigest()[:16]

    def _make(self, atrophy, replicate, files, digest):
        from bids_interp.phantom.inject.planted_scan import plant_change
        from bids_interp.phantom.inject.warps import draw_warp

        warp = draw_warp(
            atrophy,
            replicate.seed(self.inputs.seed),
            replicate.patient,
            replicate.strength,
            null=self.inputs.null,
            anatomy_mm=self.inputs.anatomy_mm,
            scaling=replicate.scaling,
        )
        data, grid, dtype = load_scan(self.inputs.t1w)
        mask, mask_grid = load_image(self.inputs.brain_mask)
        matrix = load_matrix(self.inputs.native_to_template)
        made = plant_change(
            data, grid, mask, mask_grid, matrix, warp, atrophy.grid, confound=replicate.confound
        )
        files.write(
            made, warp, grid, atrophy, matrix, dtype, dict(self.inputs.sidecar or {}), digest
        )


def load_scan(path: str) -> tuple[np.ndarray, Grid, np.dtype]:
    """Return voxels (X, Y, Z) float32 of a T1w image in the order of the file, grid and data type.

    The data type is that of the file for integers without scaling, else float32.
    """
    from bids_interp.anatomical.raw.conform import open_scan, read_voxels
    from bids_interp.anatomical.raw.headers import trusted_affine
    from bids_interp.spatial import Grid

    # The conformed image has the same warnings in its report.
    image = open_scan(Path(path), [])
    affine, _, _ = trusted_affine(image, Path(path))
    data = read_voxels(image, Path(path), []).reshape(image.shape[:3])
    is_plain = image.get_data_dtype().kind in 'iu' and image.dataobj.slope == 1
    dtype = image.get_data_dtype() if is_plain and image.dataobj.inter == 0 else np.float32
    return data, Grid(image.shape[:3], affine, 'T1w'), np.dtype(dtype)


class ReplicateFiles:
    """Files of one replicate.

    Parameters
    ----------
    out_dir : Path
        Root of the dataset.
    entities : dict
        Entities of the source image, ``sub`` first.
    label : str
        Label of the new subject.
    template : str
        Name of the template.
    """

    def __init__(self, out_dir: Path, entities: dict[str, str], label: str, template: str) -> None:
        own = {**entities, 'sub': label}
        session = f'ses-{own["ses"]}/' if 'ses' in own else ''
        self.prefix = '_'.join(f'{key}-{value}' for key, value in own.items())
        self.folder = f'sub-{label}/{session}anat'
        self.template = template
        self.image = out_dir / self.folder / f'{self.prefix}_T1w.nii.gz'
        self.truth = out_dir / TRUTH / self.folder
        # Written last, because it marks the replicate as complete.
        self.mark = self.truth / f'{self.prefix}_from-T1w_to-{template}_mode-image_xfm.json'

    def are_complete(self, digest: str) -> bool:
        """Return True if the replicate exists and was made from the same inputs."""
        try:
            found = json.loads(self.mark.read_text(encoding='utf-8'))['Digest']
        except (OSError, ValueError, LookupError):
            return False
        mask = self.truth / f'{self.prefix}_desc-brain_mask.nii.gz'
        return bool(found == digest and self.image.is_file() and mask.is_file())

    def write(
        self,
        made: PlantedScan,
        warp: ReplicateWarp,
        grid: Grid,
        atrophy: AtrophyField,
        matrix: np.ndarray,
        dtype: np.dtype,
        sidecar: dict[str, Any],
        digest: str,
    ) -> None:
        """Write image, mask, truth in both spaces, and the transform to the template."""
        from bids_interp.phantom.truth import truth_sidecar, truth_stem

        self.mark.unlink(missing_ok=True)
        image = made.image
        if dtype.kind in 'iu':
            limits = np.iinfo(dtype)
            image = np.clip(np.rint(image.astype(np.float64)), limits.min, limits.max)
        if sidecar:
            write_json(self.image.with_name(f'{self.prefix}_T1w.json'), sidecar)
        write_nifti(self.image, image, grid.affine, template=False, dtype=dtype)
        sources = [f'bids:raw:{self.folder}/{self.image.name}']
        mask = self.truth / f'{self.prefix}_desc-brain_mask.nii.gz'
        write_nifti(mask, made.brain_mask, grid.affine, template=False, dtype=np.uint8)
        write_json(
            mask.with_name(f'{self.prefix}_desc-brain_mask.json'),
            {'Type': 'Brain', 'Sources': sources},
        )
        facts = truth_sidecar(warp.direction, warp.truth_severity, atrophy.changes, sources)
        maps = ((None, grid, made.truth), (self.template, atrophy.grid, warp.truth))
        for space, map_grid, values in maps:
            if values is None:
                continue
            stem = f'{self.prefix}_{truth_stem(warp.direction, space)}'
            write_json(self.truth / f'{stem}.json', facts)
            file = self.truth / f'{stem}.nii.gz'
            write_nifti(file, np.round(values, 4), map_grid.affine, template=space is not None)
        transform = {'NativeToTemplate': matrix.tolist(), 'Units': 'mm, RAS+', 'Sources': sources}
        write_json(self.mark, {**transform, 'Digest': digest})
