"""The node that carries simulations out at full resolution."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    OutputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_interp.bids.names import DIRECTIONS, dose_label
from bids_interp.bids.write import write_json, write_nifti
from bids_interp.interfaces.model import load_image, load_matrix, load_velocity
from bids_interp.models.prediction import MapFacts
from bids_interp.records import to_plain


class _RealiseInputSpec(BaseInterfaceInputSpec):
    velocity = InputMultiObject(File(exists=True), mandatory=True, desc='inject, remove')
    doses = traits.List(traits.Float, mandatory=True, desc='doses')
    image = File(exists=True, mandatory=True, desc='brain on the grid wanted, zero outside')
    to_template = File(exists=True, desc='JSON: 4 x 4 to the template; not for images in it')
    field_kind = traits.Enum('velocity', 'displacement', usedefault=True, desc='of the fields')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of PyTorch')


class _RealiseOutputSpec(TraitedSpec):
    simulated = OutputMultiObject(File(exists=True), desc='simulated brains')
    log_jacobian = OutputMultiObject(File(exists=True), desc='log-Jacobian maps')
    facts = File(exists=True, desc='JSON: one object per map')


class Realise(SimpleInterface):
    """Carry simulations out on one grid: in template space, or in the subject's own.

    The files are in the order of the directions and, in each, of the doses.
    """

    input_spec = _RealiseInputSpec
    output_spec = _RealiseOutputSpec

    def _run_interface(self, runtime):
        import torch

        from bids_interp.models.explainer import realise

        torch.set_num_threads(self.inputs.num_threads)
        is_native = isdefined(self.inputs.to_template)
        matrix = load_matrix(self.inputs.to_template) if is_native else None
        image, grid = load_image(self.inputs.image)
        written: dict[str, list[str]] = {'simulated': [], 'log_jacobian': []}
        facts: list[MapFacts] = []
        for direction, path in zip(DIRECTIONS, self.inputs.velocity, strict=True):
            velocity, velocity_grid = load_velocity(path)
            for dose in self.inputs.doses:
                done = realise(
                    velocity, velocity_grid, dose, image, grid, matrix, self.inputs.field_kind
                )
                for name, data in (('simulated', done.image), ('log_jacobian', done.log_jacobian)):
                    file = Path(runtime.cwd) / f'{dose_label(direction, dose)}_{name}.nii.gz'
                    write_nifti(file, data, grid.affine, template=not is_native)
                    written[name].append(str(file))
                facts.append(MapFacts(done.n_folded, done.displacement_max_mm))
        path = write_json(Path(runtime.cwd) / 'facts.json', to_plain(facts))
        self._results = {**written, 'facts': str(path)}
        return runtime
