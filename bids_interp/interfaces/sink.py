"""Sink for all derivatives, which writes the files of a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    DynamicTraitedSpec,
    File,
    OutputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_interp.bids.explain_files import stem_of
from bids_interp.bids.names import sidecar_name
from bids_interp.bids.write.atomic import check_copy, copy_file, is_no_map, write_json
from bids_interp.bids.write.nifti import copy_nifti
from bids_interp.bids.write.scan_outputs import ALL_KEYS, KEYS_OF_FILE, OutputPlan, sink_inputs


class _SinkInputSpec(DynamicTraitedSpec, BaseInterfaceInputSpec):
    out_dir = Directory(mandatory=True, desc='root of the output dataset')
    plan = traits.Dict(mandatory=True, desc='planned outputs in order, by input')


class _SinkOutputSpec(TraitedSpec):
    out_files = OutputMultiObject(File(exists=True), desc='files written, without sidecars')


class DerivativesSink(SimpleInterface):
    """Write planned outputs atomically into the output dataset.

    Parameters
    ----------
    plan : dict
        Plan of :func:`bids_interp.bids.write.scan_outputs.plan_anatomical` or ``plan_explain``.
        Every key becomes an input for a file or a list of files. Every value that a sidecar needs
        becomes an input for a value or a JSON file.

    Raises
    ------
    ValueError
        If the files of an input, or their order, differ from the plan.
    OutputError
        If a file is damaged; the earlier output is kept.
    """

    input_spec = _SinkInputSpec
    output_spec = _SinkOutputSpec
    # Someone may have removed outputs since the last run with this work directory.
    _always_run = True

    def __init__(self, plan: OutputPlan | None = None, **inputs: Any) -> None:
        super().__init__()
        planned = plan or {}
        for name in sink_inputs(planned):
            self.inputs.add_trait(name, traits.Any)
            self.inputs.trait_set(trait_change_notify=False, **{name: traits.Undefined})
        if plan is not None:
            self.inputs.plan = {
                key: [output.to_dict() for output in outputs] for key, outputs in plan.items()
            }
        self.inputs.trait_set(**inputs)

    def _run_interface(self, runtime):
        written = []
        for name, outputs in self.inputs.plan.items():
            files = _as_list(self._value(name))
            check_identity(name, files, outputs)
            for file, output in zip(files, outputs, strict=True):
                if output['optional'] and is_no_map(file):
                    continue
                metadata = {**output['metadata'], **self._runtime_fields(output)}
                written.append(str(write_derivative(file, self.inputs.out_dir, output, metadata)))
        self._results['out_files'] = written
        return runtime

    def _value(self, name: str) -> Any:
        value = getattr(self.inputs, name)
        if not isdefined(value):
            raise ValueError(f'The input {name} is not connected.')
        return value

    def _runtime_fields(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return the sidecar fields that were computed in the run."""
        collected: dict[str, Any] = {}
        for key, name in output['runtime_fields']:
            value = self._value(name)
            if isinstance(value, str) and value.endswith('.json'):
                value = _read_json(value, Path(self.inputs.out_dir) / output['name'])
            if key == KEYS_OF_FILE:
                value = value[output['label']]
            collected |= value if key in (ALL_KEYS, KEYS_OF_FILE) else {key: value}
        return collected


def _read_json(file: str | Path, path: Path) -> Any:
    """Read a JSON file whose content goes to ``path``."""
    check_copy(file, Path(file), path)
    return json.loads(Path(file).read_text(encoding='utf-8'))


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def check_identity(name: str, files: list[str], outputs: list[dict[str, Any]]) -> None:
    """Compare the files of one input with the plan by their names.

    Raises
    ------
    ValueError
        If number, identity or order differ.
    """
    planned = [output['stem'] for output in outputs]
    if len(files) != len(planned):
        raise ValueError(f'{name} has {len(files)} files instead of {len(planned)}.')
    wrong = [
        f'{stem} (planned: {wanted})'
        for stem, wanted in zip(map(stem_of, files), planned, strict=True)
        if wanted is not None and stem != wanted
    ]
    if wrong:
        raise ValueError(f'{name} has other files than planned: {", ".join(wrong)}.')


def write_derivative(
    file: str | Path, out_dir: str | Path, output: dict[str, Any], metadata: dict[str, Any]
) -> Path:
    """Write the sidecar and then the file, so that no file lacks its sidecar.

    Parameters
    ----------
    file : path
        Input file.
    out_dir : path
        Root of the output dataset.
    output : dict
        A :class:`bids_interp.bids.write.scan_outputs.PlannedOutput` as plain types.
    metadata : dict
        Content of the sidecar; merged into JSON files.

    Returns
    -------
    pathlib.Path
        The output file.
    """
    path = Path(out_dir) / output['name']
    if path.suffix == '.json':
        return write_json(path, {**metadata, **_read_json(file, path)})
    write_json(sidecar_name(path), metadata)
    if path.name.endswith('.nii.gz'):
        return copy_nifti(file, path, template=output['template'], dtype=output['dtype'])
    return copy_file(file, path)
