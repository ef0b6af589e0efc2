"""Model inputs: base classes and loading for the interfaces that use a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    SimpleInterface,
    traits,
)

from bids_interp.bids.explain_files import field_files, stem_of

if TYPE_CHECKING:
    import torch

    from bids_interp.models.bundle.reader import ModelBundle
    from bids_interp.spatial import Grid


class ModelInputSpec(BaseInterfaceInputSpec):
    """Inputs of every node that opens the model."""

    # The location of the model does not matter, only its hash.
    model = Directory(exists=True, mandatory=True, nohash=True, desc='model bundle')
    model_hash = traits.Str(mandatory=True, desc='hash of the model bundle')
    contrast = traits.Str('', usedefault=True, desc='pair of classes; empty for the first')
    allow_code = traits.Bool(
        False, usedefault=True, nohash=True, desc='allow the code of the model'
    )
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of PyTorch')
    random_seed = traits.Int(0, usedefault=True, desc='seed of PyTorch')


class NetworkInputSpec(ModelInputSpec):
    """Inputs of every node that runs a network of the model."""

    model_input = File(exists=True, mandatory=True, desc='input of the classifier')
    membership = File(exists=True, mandatory=True, desc='JSON: folds that may explain the subject')
    device = traits.Str('cpu', usedefault=True, nohash=True, desc='cpu, cuda or cuda:N')
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc='wait for a free GPU')


class ModelInterface(SimpleInterface):
    """Base of the interfaces that open the model."""

    def open_model(self) -> ModelBundle:
        """Load the bundle, and set the threads and the seed of PyTorch."""
        import torch

        from bids_interp.errors import ModelError
        from bids_interp.models.bundle.reader import load_bundle

        torch.set_num_threads(self.inputs.num_threads)
        torch.manual_seed(self.inputs.random_seed)
        bundle = load_bundle(
            self.inputs.model, self.inputs.contrast or None, allow_code=self.inputs.allow_code
        )
        if bundle.version_hash != self.inputs.model_hash:
            raise ModelError(
                f'{self.inputs.model} changed during the run: its hash is {bundle.version_hash} '
                f'instead of {self.inputs.model_hash}.',
                'Run the same command again.',
            )
        return bundle

    def network_input(self) -> tuple[torch.Tensor, tuple[int, ...], str]:
        """Return the input (1, 1, X, Y, Z), the folds to use, and the device."""
        import torch

        from bids_interp.device import resolve_device

        data, _ = load_image(self.inputs.model_input)
        membership = json.loads(Path(self.inputs.membership).read_text(encoding='utf-8'))
        image = torch.from_numpy(data)[None, None]
        return image, tuple(membership['FoldsUsed']), resolve_device(self.inputs.device)

    def path(self, runtime: Any, name: str) -> str:
        """Return the path of a file in the folder of the node."""
        return str(Path(runtime.cwd) / name)


def load_image(path: str, space: str = '') -> tuple[np.ndarray, Grid]:
    """Return voxels (X, Y, Z) float32 of a NIfTI image, and its grid."""
    import nibabel as nib

    from bids_interp.spatial import Grid

    image = nib.Nifti1Image.from_filename(path)
    data = np.ascontiguousarray(image.get_fdata(dtype=np.float32))
    return data, Grid.from_image(image, space)


def load_input(brain: str, head: str, skull: bool, source: str) -> tuple[np.ndarray, Grid]:
    """Return the image that a model takes, with its grid: the brain, or the whole head.

    Parameters
    ----------
    brain, head : str
        Native images on one grid: zero outside the brain, and with the head.
    skull : bool
        The model was trained with the skull on.
    source : str
        File name for messages.

    Raises
    ------
    ImageError
        If the model takes heads, but the image is skull-stripped.
    """
    if not skull:
        return load_image(brain, 'T1w')
    from bids_interp.models.preprocessing import check_head

    image, grid = load_image(head, 'T1w')
    check_head(image, load_image(brain)[0], source)
    return image, grid


def load_velocity(path: str) -> tuple[np.ndarray, Grid]:
    """Return a velocity (3, X, Y, Z) in mm along world axes from a 5-D image, and its grid."""
    data, grid = load_image(path)
    return np.ascontiguousarray(np.moveaxis(data[..., 0, :], -1, 0)), grid


def load_fields(paths: Sequence[str]) -> dict[str, tuple[np.ndarray, Grid]]:
    """Return the fields of the node Simulate by direction.

    Raises
    ------
    ValueError
        If the files or their order differ.
    """
    fields = {}
    for path, file in zip(paths, field_files(), strict=True):
        if stem_of(path) != file.stem:
            raise ValueError(f'{path} is not the field of the direction {file.direction}.')
        fields[file.direction] = load_velocity(path)
    return fields


def load_matrix(path: str) -> np.ndarray:
    """Return the affine 4 x 4 under ``native_to_template`` in the JSON file of a registration."""
    registration = json.loads(Path(path).read_text(encoding='utf-8'))
    return np.array(registration['native_to_template'], dtype=np.float64)
