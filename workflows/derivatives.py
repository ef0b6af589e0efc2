"""Sinks: what the other workflows computed becomes BIDS derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bids.write.provenance import common_fields
from bids_interp.bids.write.scan_outputs import (
    ImageOutputs,
    plan_anatomical,
    plan_explain,
    sink_inputs,
)
from bids_interp.interfaces.sink import DerivativesSink

if TYPE_CHECKING:
    from bids_interp.models.bundle.reader import ModelBundle


def init_derivatives_wf(
    *,
    source: Path,
    out_dir: Path,
    roots: Mapping[str, Path],
    bundle: ModelBundle,
    doses: Sequence[float] = (1.0,),
    output_spaces: Sequence[str] = ('T1w', 'template'),
    saliency: Sequence[str] = (),
    derivative_t1w: Path | None = None,
    derivative_mask: Path | None = None,
    random_seed: int = 0,
    prepared_with: dict[str, Any] | None = None,
    name: str = 'derivatives_wf',
) -> Workflow:
    """Write the derivatives of one T1w image; sinks only.

    Parameters
    ----------
    source : pathlib.Path
        The T1w image in the input dataset.
    out_dir : pathlib.Path
        Root of the output dataset.
    roots : mapping
        Link name -> root of every input dataset: ``{'raw': BIDS_DIR, **derivatives}``.
    bundle : ModelBundle
        The model; its identity, template and grid are written down.
    doses, output_spaces, saliency
        As given to the explain workflow.
    derivative_t1w, derivative_mask : pathlib.Path, optional
        Precomputed files that the anatomical workflow used.
    random_seed : int
        Seed, for the sidecars.
    prepared_with : dict, optional
        What decided how the brain was prepared, for its sidecar.
    name : str
        Name of the workflow.

    Inputs
    ------
    t1w_preproc, brain_mask, template_brain, xfm_forward_itk, xfm_inverse_itk
        Files of the anatomical workflow.
    skull_stripped_input
        Whether the preprocessed image has no skull (bool).
    conform_report, native_to_template
        JSON objects for sidecars: what was done to orientation and header; the registration.
    anatomy, model_input, velocity, prediction, dose_response, counterfactual
        Files of the explain workflow.
    membership, velocity_facts, native_facts, template_facts
        JSON files of the explain workflow that go into sidecars.
    simulated_native, logjacobian_native, simulated_template, logjacobian_template
        Lists of files of the explain workflow, of the spaces asked for.
    saliency, saliency_facts, saliency_methods
        Maps of the explain workflow and what they are, if any are asked for.

    Outputs
    -------
    brain_files, registration_files, explain_files
        What was written.
    """
    image_outputs = ImageOutputs(
        source=Path(source),
        out_dir=Path(out_dir),
        roots=roots,
        template=bundle.template,
        model_resolution=describe_grid(bundle),
        common=common_fields(bundle, random_seed),
        derivative_t1w=derivative_t1w,
        derivative_mask=derivative_mask,
        prepared_with=prepared_with,
        field_kind=bundle.field_kind,
    )
    anatomical = plan_anatomical(image_outputs)
    # Brain and mask have a sink of their own: where the registration fails, they are looked at.
    plans = {
        'brain': {key: anatomical.pop(key) for key in ('t1w_preproc', 'brain_mask')},
        'registration': anatomical,
        'explain': plan_explain(image_outputs, doses, output_spaces, saliency),
    }
    workflow = Workflow(name=name)
    fields = sorted({field for plan in plans.values() for field in sink_inputs(plan)})
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name='inputnode')
    outputnode = pe.Node(
        niu.IdentityInterface(fields=[f'{what}_files' for what in plans]), name='outputnode'
    )
    for what, plan in plans.items():
        sink = pe.Node(
            DerivativesSink(plan=plan, out_dir=str(out_dir)), name=f'ds_{what}', mem_gb=0.5
        )
        workflow.connect([
            (inputnode, sink, [(field, field) for field in sink_inputs(plan)]),
            (sink, outputnode, [('out_files', f'{what}_files')]),
        ])  # fmt: skip
    return workflow


def describe_grid(bundle: ModelBundle) -> str:
    """Describe the grid of a model, for the ``Resolution`` of a sidecar."""
    shape = ' x '.join(str(size) for size in bundle.grid.shape)
    spacing = ' x '.join(f'{size:.4g}' for size in bundle.grid.spacing)
    return f'Grid of the model: {shape} voxels of {spacing} mm.'
