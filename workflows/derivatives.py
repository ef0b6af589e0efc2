"""Derivatives workflow: sinks that write BIDS derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bids.write.provenance import common_fields
from bids_interp.bids.write.scan_outputs import (
    AtlasIdentity,
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
    remeasure: bool = False,
    atlas: AtlasIdentity | None = None,
    derivative_t1w: Path | None = None,
    derivative_mask: Path | None = None,
    random_seed: int = 0,
    prepared_with: dict[str, Any] | None = None,
    name: str = 'derivatives_wf',
) -> Workflow:
    """Write the derivatives of one T1w image.

    Parameters
    ----------
    source : pathlib.Path
        The T1w image in the input dataset.
    out_dir : pathlib.Path
        Root of the output dataset.
    roots : mapping
        Link name -> root of every input dataset: ``{'raw': BIDS_DIR, **derivatives}``.
    bundle : ModelBundle
        Model bundle; its identity, template and grid go into the sidecars.
    doses, output_spaces, saliency, remeasure, atlas
        As given to the explain workflow.
    derivative_t1w, derivative_mask : pathlib.Path, optional
        Files of other tools that the anatomical workflow used.
    random_seed : int
        Random seed, for the sidecars.
    prepared_with : dict, optional
        Settings of the brain preparation, for its sidecar.
    name : str
        Name of the workflow.

    Inputs
    ------
    t1w_preproc, brain_mask, template_brain, template_mask, xfm_forward_itk, xfm_inverse_itk
        Files of the anatomical workflow.
    skull_stripped_input
        True if the input image had no skull.
    conform_report, native_to_template
        JSON objects for sidecars: changes to orientation and header; the registration.
    anatomy, model_input, velocity, prediction, dose_response, counterfactual
        Files of the explain workflow.
    membership, velocity_facts, native_facts, template_facts
        JSON files of the explain workflow that go into sidecars.
    simulated_native, logjacobian_native, simulated_template, logjacobian_template
        Lists of files of the explain workflow, in the requested spaces; likewise in other
        templates, with ``template_brain_<space>`` and ``template_mask_<space>``.
    regions
        Table of the explain workflow, if there is an atlas.
    saliency, saliency_facts, saliency_methods
        Saliency maps of the explain workflow and their descriptions, if requested.
    remeasured, remeasured_facts
        Table and JSON file of the explain workflow, if requested.

    Outputs
    -------
    brain_files, registration_files, explain_files
        The files written.
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
    # Brain and mask have their own sink, so that they can be inspected if registration fails.
    plans = {
        'brain': {key: anatomical.pop(key) for key in ('t1w_preproc', 'brain_mask')},
        'registration': anatomical,
        'explain': plan_explain(image_outputs, doses, output_spaces, saliency, remeasure, atlas),
    }
    workflow = Workflow(name=name)
    fields = sorted({field for plan in plans.values() for field in sink_inputs(plan)})
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name='inputnode')
    outputnode = pe.Node(
        niu.IdentityInterface(fields=[f'{kind}_files' for kind in plans]), name='outputnode'
    )
    for kind, plan in plans.items():
        sink = pe.Node(
            DerivativesSink(plan=plan, out_dir=str(out_dir)), name=f'ds_{kind}', mem_gb=0.5
        )
        workflow.connect([
            (inputnode, sink, [(field, field) for field in sink_inputs(plan)]),
            (sink, outputnode, [('out_files', f'{kind}_files')]),
        ])  # fmt: skip
    return workflow


def describe_grid(bundle: ModelBundle) -> str:
    """Return the description of a model's grid, for the ``Resolution`` of a sidecar."""
    shape = ' x '.join(str(size) for size in bundle.grid.shape)
    spacing = ' x '.join(f'{size:.4g}' for size in bundle.grid.spacing)
    return f'Grid of the model: {shape} voxels of {spacing} mm.'
