"""Explain workflow: from a brain to simulated images and log-Jacobian maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bids.explain_files import (
    FACTS,
    QUANTITIES,
    SALIENCY,
    VELOCITY,
    realised_field,
)
from bids_interp.bids.write.scan_outputs import other_templates, wants_space
from bids_interp.constants import ANATOMY_MM
from bids_interp.interfaces.anatomical import MeasureAnatomy
from bids_interp.interfaces.explain import (
    REMEASURED_DOSE,
    Classify,
    Counterfactual,
    PrepareInput,
    Remeasure,
    Simulate,
)
from bids_interp.interfaces.realise import Realise, ResampleToSpace
from bids_interp.interfaces.regions import MeasureRegions
from bids_interp.interfaces.saliency import Saliency
from bids_interp.settings import NATIVE_SPACE

if TYPE_CHECKING:
    from bids_interp.anatomical.spaces.atlas import Atlas
    from bids_interp.models.bundle.reader import ModelBundle

INPUTS = [
    't1w',
    't1w_preproc',
    'brain',
    'brain_mask',
    'native_to_template',
    'template_brain',
    'template_mask',
]
OUTPUTS = [
    'anatomy',
    'model_input',
    'membership',
    'observed',
    VELOCITY,
    'velocity_facts',
    'prediction',
    'dose_response',
    'counterfactual',
    *(realised_field(quantity, space) for quantity in QUANTITIES for space in FACTS),
    *FACTS.values(),
    'regions',
    SALIENCY,
    'saliency_facts',
    'saliency_methods',
    'remeasured',
    'remeasured_facts',
]
#: Outputs in another template, by the outputs of :class:`ResampleToSpace`.
RESAMPLED = {
    'brain': 'template_brain',
    'mask': 'template_mask',
    'simulated': 'simulated',
    'log_jacobian': 'logjacobian',
}
#: Outputs of ``prepare_input`` that every node with a network takes.
MODEL_INPUT = [('model_input', 'model_input'), ('membership', 'membership')]


def init_explain_wf(
    *,
    bundle: ModelBundle,
    dataset_key: str,
    participant: str,
    doses: Sequence[float] = (1.0,),
    output_spaces: Sequence[str] = ('T1w', 'template'),
    saliency: Sequence[str] = (),
    remeasure: bool = False,
    atlas: Atlas | None = None,
    device: str = 'cpu',
    omp_nthreads: int = 1,
    random_seed: int = 0,
    offline: bool = True,
    name: str = 'explain_wf',
) -> Workflow:
    """Simulate on one brain what a classifier has learned, and measure it.

    Parameters
    ----------
    bundle : ModelBundle
        Model bundle; only its path, hash and template are used here.
    dataset_key : str
        DOI or name of the input dataset, which identifies training subjects with ``participant``.
    participant : str
        Label without ``sub-``.
    doses : sequence of float
        Doses of the images and maps; each in both directions.
    output_spaces : sequence of str
        ``T1w`` (native), ``template`` (1 mm, also by the name of the bundle's template), and names
        of other templates.
    saliency : sequence of str
        Saliency methods to compare with, of :data:`bids_interp.constants.SALIENCY_METHODS`.
    remeasure : bool
        Measure the simulated images at dose 1 by a registration.
    atlas : Atlas, optional
        Measure the volume of its regions in the scan and its simulations.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Nodes on a CUDA device wait for a free GPU.
    omp_nthreads : int
        Threads of PyTorch in each node.
    random_seed : int
        Seed of PyTorch and ANTs.
    offline : bool
        Do not download the template.
    name : str
        Name of the workflow.

    Inputs
    ------
    t1w
        The source image, used only for its fingerprint.
    t1w_preproc
        Preprocessed T1w image, for models that take the whole head.
    brain
        Preprocessed T1w image, 0 outside the brain mask.
    brain_mask
        Its mask, 0 and 1.
    native_to_template
        JSON file, see :func:`bids_interp.workflows.anatomical.init_anatomical_wf`.
    template_brain
        The same brain in template space at 1 mm, zero outside.
    template_mask
        Brain mask in template space, 0 and 1.

    Outputs
    -------
    anatomy
        Local volumes of the observed brain; an empty file if the registration failed.
    model_input, membership
        Input of the classifier; JSON with ``InTrainingSet``, ``FoldsUsed`` and ``HeldOut``.
    observed
        JSON, see :func:`bids_interp.interfaces.explain.mean_answer`.
    prediction
        JSON: fields of ``membership``, ``Target``, ``Observed`` and ``Simulated``.
    dose_response, counterfactual
        TSV tables.
    velocity
        Two files, see :func:`bids_interp.bids.explain_files.field_files`; ``velocity_facts``
        (JSON) has an object for each direction.
    simulated_native, logjacobian_native, simulated_template, logjacobian_template
        Lists of files, see :func:`bids_interp.bids.explain_files.realised_files`, in the requested
        spaces only. ``native_facts`` and ``template_facts`` (JSON) have an object for each
        direction and dose.
    template_brain_<space>, template_mask_<space>, simulated_<space>, logjacobian_<space>
        The same in each other template.
    regions
        TSV table of the regions of the atlas, if there is one.
    saliency, saliency_facts, saliency_methods
        Outputs of :class:`bids_interp.interfaces.saliency.Saliency`, if methods are requested.
    remeasured, remeasured_facts
        Outputs of :class:`bids_interp.interfaces.explain.Remeasure`, if requested.
    """
    model = _model_inputs(bundle, omp_nthreads, random_seed)
    network = {**model, **_device_inputs(device)}
    doses = [float(dose) for dose in doses]
    workflow = Workflow(name=name)
    workflow.__desc__ = (
        _description(bundle, remeasure)
        + _spaces_description(output_spaces, bundle.template, atlas)
        + _saliency_description(saliency, bundle)
    )
    inputnode = pe.Node(niu.IdentityInterface(fields=INPUTS), name='inputnode')
    others = other_templates(output_spaces, bundle.template)
    added = [realised_field(name, space) for space in others for name in RESAMPLED.values()]
    outputnode = pe.Node(niu.IdentityInterface(fields=[*OUTPUTS, *added]), name='outputnode')
    workflow.add_nodes([inputnode, outputnode])
    _add_input(workflow, dataset_key, participant, model)
    _add_anatomy(workflow, bundle.template, offline, omp_nthreads, random_seed)
    _add_networks(workflow, doses, network, omp_nthreads)
    spaces = _realised_spaces(output_spaces, bundle.template)
    # Native maps are measured, and those in the template are resampled, though not written.
    spaces += ['native'] if atlas is not None and 'native' not in spaces else []
    spaces += ['template'] if others and 'template' not in spaces else []
    for space in spaces:
        _add_realisation(workflow, space, doses, bundle.field_kind, omp_nthreads)
    for other in others:
        _add_resampling(workflow, other, bundle.template, doses, offline, omp_nthreads)
    if atlas is not None:
        _add_regions(workflow, atlas, bundle.template, doses, offline, omp_nthreads)
    if saliency:
        _add_saliency(workflow, saliency, network, omp_nthreads)
    if remeasure:
        _add_remeasurement(workflow, bundle, doses, omp_nthreads, random_seed)
    return workflow


def _model_inputs(bundle: ModelBundle, omp_nthreads: int, random_seed: int) -> dict[str, Any]:
    """Inputs of every node that opens the model."""
    return {
        'model': str(Path(bundle.path)),
        'model_hash': bundle.version_hash,
        'contrast': bundle.contrast_name,
        'allow_code': bundle.allow_code,
        'num_threads': omp_nthreads,
        'random_seed': random_seed,
    }


def _device_inputs(device: str) -> dict[str, Any]:
    """Inputs of every node that runs networks."""
    if device == 'auto':
        from bids_interp.device import resolve_device

        device = resolve_device(device)
    return {'device': device, 'use_gpu': device.startswith('cuda')}


def _add_input(
    workflow: Workflow, dataset_key: str, participant: str, model: dict[str, Any]
) -> None:
    """Add the node that makes the input of the classifiers."""
    prepare_input = pe.Node(
        PrepareInput(dataset_key=dataset_key, participant=participant, **model),
        name='prepare_input',
        mem_gb=1.0,
        n_procs=model['num_threads'],
    )
    fields = [(field, field) for field in ('t1w', 't1w_preproc', 'brain', 'native_to_template')]
    workflow.connect([
        (workflow.get_node('inputnode'), prepare_input, fields),
        (prepare_input, workflow.get_node('outputnode'), MODEL_INPUT),
    ])  # fmt: skip


def _add_anatomy(
    workflow: Workflow, template: str, offline: bool, omp_nthreads: int, random_seed: int
) -> None:
    """Add the node that measures the local volumes of the observed brain."""
    measure_anatomy = pe.Node(
        MeasureAnatomy(
            template=template, offline=offline, num_threads=omp_nthreads, random_seed=random_seed
        ),
        name='measure_anatomy',
        mem_gb=1.0,
        n_procs=omp_nthreads,
    )
    workflow.connect([
        (workflow.get_node('inputnode'), measure_anatomy, [('template_brain', 'template_brain')]),
        (measure_anatomy, workflow.get_node('outputnode'), [('anatomy', 'anatomy')]),
    ])  # fmt: skip


def _add_networks(
    workflow: Workflow, doses: Sequence[float], network: dict[str, Any], omp_nthreads: int
) -> None:
    """Add the nodes that run the classifiers and simulators."""
    classify = pe.Node(Classify(**network), name='classify', mem_gb=1.0, n_procs=omp_nthreads)
    simulate = pe.Node(Simulate(**network), name='simulate', mem_gb=1.5, n_procs=omp_nthreads)
    counterfactual = pe.Node(
        Counterfactual(doses=doses, **network),
        name='counterfactual',
        mem_gb=1.5,
        n_procs=omp_nthreads,
    )
    prepare_input, outputnode = (workflow.get_node(n) for n in ('prepare_input', 'outputnode'))
    workflow.connect([
        (prepare_input, classify, MODEL_INPUT),
        (prepare_input, simulate, MODEL_INPUT),
        (prepare_input, counterfactual, MODEL_INPUT),
        (classify, counterfactual, [('observed', 'observed')]),
        (simulate, counterfactual, [('velocity', 'velocity')]),
        (classify, outputnode, [('observed', 'observed')]),
        (simulate, outputnode, [('velocity', 'velocity'), ('velocity_facts', 'velocity_facts')]),
        (counterfactual, outputnode, [
            ('prediction', 'prediction'),
            ('dose_response', 'dose_response'),
            ('counterfactual', 'counterfactual'),
        ]),
    ])  # fmt: skip


def _add_saliency(
    workflow: Workflow, methods: Sequence[str], network: dict[str, Any], omp_nthreads: int
) -> None:
    """Add the node of the saliency maps."""
    saliency_maps = pe.Node(
        Saliency(methods=list(methods), **network),
        name='saliency_maps',
        mem_gb=1.5,
        n_procs=omp_nthreads,
    )
    fields = [(field, field) for field in ('saliency', 'saliency_facts', 'saliency_methods')]
    workflow.connect([
        (workflow.get_node('prepare_input'), saliency_maps, MODEL_INPUT),
        (saliency_maps, workflow.get_node('outputnode'), fields),
    ])  # fmt: skip


def _realised_spaces(output_spaces: Sequence[str], template: str) -> list[str]:
    return [s for s in ('native', 'template') if wants_space(output_spaces, s, template)]


def _add_realisation(
    workflow: Workflow, space: str, doses: Sequence[float], field_kind: str, omp_nthreads: int
) -> None:
    """Add the node that realises the simulations in ``native`` or ``template`` space."""
    fields = {
        'native': [
            ('brain', 'image'),
            ('brain_mask', 'mask'),
            ('native_to_template', 'to_template'),
        ],
        'template': [('template_brain', 'image'), ('template_mask', 'mask')],
    }
    realise = pe.Node(
        Realise(doses=doses, field_kind=field_kind, num_threads=omp_nthreads),
        name=f'realise_{space}',
        mem_gb=2.5,
        n_procs=omp_nthreads,
    )
    workflow.connect([
        (workflow.get_node('inputnode'), realise, fields[space]),
        (workflow.get_node('simulate'), realise, [('velocity', 'velocity')]),
        (realise, workflow.get_node('outputnode'), [
            ('simulated', realised_field('simulated', space)),
            ('log_jacobian', realised_field('logjacobian', space)),
            ('facts', FACTS[space]),
        ]),
    ])  # fmt: skip


def _add_resampling(
    workflow: Workflow,
    space: str,
    template: str,
    doses: Sequence[float],
    offline: bool,
    omp_nthreads: int,
) -> None:
    """Add the node that puts the realised simulations into another template."""
    resample = pe.Node(
        ResampleToSpace(
            space=space, template=template, doses=doses, offline=offline, num_threads=omp_nthreads
        ),
        name=f'resample_{space.replace("+", "_")}',
        mem_gb=2.5,
        n_procs=omp_nthreads,
    )
    outputs = [(name, realised_field(field, space)) for name, field in RESAMPLED.items()]
    workflow.connect([
        (workflow.get_node('inputnode'), resample, [
            ('template_brain', 'brain'),
            ('template_mask', 'mask'),
        ]),
        (workflow.get_node('realise_template'), resample, [
            ('simulated', 'simulated'),
            ('log_jacobian', 'log_jacobian'),
        ]),
        (resample, workflow.get_node('outputnode'), outputs),
    ])  # fmt: skip


def _add_regions(
    workflow: Workflow,
    atlas: Atlas,
    template: str,
    doses: Sequence[float],
    offline: bool,
    omp_nthreads: int,
) -> None:
    """Add the node that measures the regions of an atlas in native space."""
    measure_regions = pe.Node(
        MeasureRegions(
            doses=doses,
            template=template,
            atlas=str(atlas.path),
            atlas_space=atlas.space,
            names=atlas.names,
            offline=offline,
            num_threads=omp_nthreads,
        ),
        name='measure_regions',
        mem_gb=1.5,
        n_procs=omp_nthreads,
    )
    workflow.connect([
        (workflow.get_node('inputnode'), measure_regions, [
            ('brain_mask', 'mask'),
            ('native_to_template', 'to_template'),
        ]),
        (workflow.get_node('realise_native'), measure_regions, [('log_jacobian', 'log_jacobian')]),
        (measure_regions, workflow.get_node('outputnode'), [('regions', 'regions')]),
    ])  # fmt: skip


def _add_remeasurement(
    workflow: Workflow,
    bundle: ModelBundle,
    doses: Sequence[float],
    omp_nthreads: int,
    random_seed: int,
) -> None:
    """Add the node that measures the simulated images again, in template space at dose 1."""
    realised = workflow.get_node('realise_template')
    if realised is None or REMEASURED_DOSE not in doses:
        # Other spaces or doses were requested; these files are not written.
        realised = pe.Node(
            Realise(
                doses=[REMEASURED_DOSE], field_kind=bundle.field_kind, num_threads=omp_nthreads
            ),
            name='realise_remeasured',
            mem_gb=2.5,
            n_procs=omp_nthreads,
        )
        workflow.connect([
            (workflow.get_node('inputnode'), realised, [
                ('template_brain', 'image'),
                ('template_mask', 'mask'),
            ]),
            (workflow.get_node('simulate'), realised, [('velocity', 'velocity')]),
        ])  # fmt: skip
    remeasure = pe.Node(
        Remeasure(template=bundle.template, num_threads=omp_nthreads, random_seed=random_seed),
        name='remeasure',
        mem_gb=1.5,
        n_procs=omp_nthreads,
    )
    workflow.connect([
        (workflow.get_node('inputnode'), remeasure, [
            ('template_brain', 'brain'),
            ('template_mask', 'mask'),
        ]),
        (realised, remeasure, [('simulated', 'simulated'), ('log_jacobian', 'log_jacobian')]),
        (remeasure, workflow.get_node('outputnode'), [
            ('remeasured', 'remeasured'),
            ('remeasured_facts', 'remeasured_facts'),
        ]),
    ])  # fmt: skip


#: Sentences about the simulators of a pattern.
_PATTERNS = """ In this model, the field is the gradient of a potential whose flow changes local
volumes by the measured difference between the classes. This difference was estimated from volumes
that were measured without the labels, adjusted for covariates, with standard errors from exchanged
labels of whole families [@multilevelpermutation], and shrunk towards zero by an empirical Bayes
prior [@adaptiveshrinkage]; only the parts to which the classifier responds were kept."""


def _description(bundle: ModelBundle, remeasure: bool) -> str:
    """Return the methods text of this workflow."""
    remeasured = (
        ' The simulated images at dose 1 were measured again in the same way, by a registration of '
        'the scan to its simulation, and the volume changes of coarse regions were compared with '
        'those of the maps.'
        if remeasure
        else ''
    )
    demonstration = (
        ' This model is a demonstration: its results show how the software works and say nothing '
        'about any disease.'
        if bundle.demonstration
        else ''
    )
    patterns = _PATTERNS if bundle.config.simulator.capacity == 'pattern' else ''
    return f"""
#### What the classifier has learned

The brain was resampled once onto the grid of the model *{bundle.name}* (version
{bundle.version_hash}, {bundle.n_folds} fold(s)) and its intensities were normalised.{demonstration}
Only classifiers that had not been trained with the subject were used. For each classifier a
simulator [@liu2021; @condconv] computed a stationary velocity field that raises the logit (the
learned pattern is injected) or lowers it (the pattern is removed); the fields were averaged over
the folds.{patterns} The fields were refined by cubic splines at full resolution and integrated by
scaling and squaring [@scaling_squaring], and the brain and its mask were warped once. The maps show
the natural logarithm of the Jacobian determinant of the deformation from the observed to the
simulated image: positive values mean local expansion, negative values contraction. They are 0
outside the brain mask; the velocity fields are not cut at its border.

For the group level, the local volumes of the observed brain were measured independently of the
model by a deformable registration to the template (SyN, local correlation, {ANATOMY_MM} mm)
[@ants].{remeasured}
"""


def _spaces_description(output_spaces: Sequence[str], template: str, atlas: Atlas | None) -> str:
    """Return the methods text of regions and of other templates, if there are any."""
    text = ''
    others = other_templates(output_spaces, template)
    if others:
        text += f"""
Images and maps were also put into {', '.join(others)} by linear interpolation, through a transform
between the templates: that of TemplateFlow if there was one, else a registration of the two (SyN)
[@ants]. The values of the maps were kept.
"""
    if atlas is not None:
        origin = 'of each scan' if atlas.space == NATIVE_SPACE else f'in {atlas.space}'
        text += f"""
The volume of each region of {atlas.path.name} ({origin}) was measured in native space, in the scan
and in its simulations, in which it is the integral of the Jacobian determinant over the region.
"""
    return text


def _saliency_description(methods: Sequence[str], bundle: ModelBundle) -> str:
    """Return the methods text of the saliency maps, if any are made."""
    if not methods:
        return ''
    return f"""
For comparison, saliency maps of the same classifiers were computed with *Captum* [@captum]
({', '.join(methods)}; methods that do not apply to the network were skipped), with the same input
and the {bundle.mean_image_name} as the baseline. Each map was divided by the class gap of its fold,
and the maps were averaged over the folds. They show where the prediction depends on the brightness
of voxels and do not indicate a direction of volume change.
"""
