"""Anatomical workflow: from a T1w image to a brain in the space of the template."""

from __future__ import annotations

from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.bids.read.query import T1wRecord
from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.interfaces.anatomical import Conform, PrepareBrain, RegisterBrain
from bids_interp.settings import Settings

ANATOMICAL_INPUTS = ['t1w', 't1w_derivative', 'mask']
#: Outputs of the nodes ``prepare_brain`` and ``register_brain``.
BRAIN_OUTPUTS = ['t1w_preproc', 'brain_mask', 'brain', 'skull_stripped_input', 'conform_report']
REGISTRATION_OUTPUTS = [
    'native_to_template',
    'xfm_forward_itk',
    'xfm_inverse_itk',
    'template_brain',
    'template_mask',
]
ANATOMICAL_OUTPUTS = [*BRAIN_OUTPUTS, *REGISTRATION_OUTPUTS]


def init_anatomical_wf(
    *,
    skull_strip: str = 'auto',
    strip_template: str | None = None,
    model_template: str = EMBEDDED_TEMPLATE,
    omp_nthreads: int = 1,
    random_seed: int = 0,
    fast: bool = False,
    offline: bool = True,
    name: str = 'anatomical_wf',
) -> Workflow:
    """Conform one T1w image, extract the brain and register it to the template of the model.

    Workflow Graph
        .. workflow::
            :graph2use: orig
            :simple_form: yes

            from bids_interp.workflows.anatomical import init_anatomical_wf
            wf = init_anatomical_wf()

    Parameters
    ----------
    skull_strip : {'auto', 'force', 'skip'}
        Extract the brain if the image has a skull; always; never.
    strip_template : str, optional
        TemplateFlow name of the whole-head template; by default the best one available locally.
    model_template : str
        Name of the brain template of the model.
    omp_nthreads : int
        Threads of ANTs in each node.
    random_seed : int
        Seed of ANTs.
    fast : bool
        Trade accuracy of the registrations for time.
    offline : bool
        Do not download templates.
    name : str
        Name of the workflow.

    Inputs
    ------
    t1w
        The source image.
    t1w_derivative
        Preprocessed T1w image to use instead, without bias correction.
    mask
        Brain mask of another tool, used unless extraction is forced.

    Outputs
    -------
    t1w_preproc
        Native image: reoriented to RAS+, header repaired, bias-corrected.
    brain_mask
        Native brain mask, 0 and 1.
    brain
        Native brain, 0 outside.
    native_to_template
        JSON file with the rows of a 4 x 4 matrix under the same key (native to template world, RAS+
        mm) and the quality of the registration.
    xfm_forward_itk, xfm_inverse_itk
        The same affine as ITK text: T1w to template, template to T1w.
    template_brain
        The brain on the 1 mm grid of the template, 0 outside the mask.
    template_mask
        Brain mask on the same grid, 0 and 1.
    skull_stripped_input
        True if the input image had no skull.
    conform_report
        JSON file: changes to the header and orientation, and origin of the brain mask.
    """
    ants = {
        'num_threads': omp_nthreads, 'random_seed': random_seed, 'fast': fast, 'offline': offline
    }  # fmt: skip
    workflow = Workflow(name=name)
    workflow.__desc__ = _description(skull_strip, model_template)
    inputnode = pe.Node(niu.IdentityInterface(fields=ANATOMICAL_INPUTS), name='inputnode')
    outputnode = pe.Node(niu.IdentityInterface(fields=ANATOMICAL_OUTPUTS), name='outputnode')
    workflow.add_nodes([inputnode, outputnode])
    _add_brain(workflow, skull_strip=skull_strip, strip_template=strip_template, **ants)
    _add_registration(workflow, template=model_template, **ants)
    return workflow


def _add_brain(workflow: Workflow, **choices: Any) -> None:
    """Add the nodes that conform the image and extract the brain, with choices of the latter."""
    conform = pe.Node(Conform(), name='conform', mem_gb=1.0)
    prepare_brain = pe.Node(
        PrepareBrain(**choices), name='prepare_brain', mem_gb=2.0, n_procs=choices['num_threads']
    )
    inputnode, outputnode = (workflow.get_node(name) for name in ('inputnode', 'outputnode'))
    workflow.connect([
        (inputnode, conform, [('t1w', 't1w'), ('t1w_derivative', 't1w_derivative')]),
        (inputnode, prepare_brain, [(field, field) for field in ANATOMICAL_INPUTS]),
        (conform, prepare_brain, [
            ('conformed', 'conformed'),
            ('conform_report', 'conform_report'),
        ]),
        (prepare_brain, outputnode, [(field, field) for field in BRAIN_OUTPUTS]),
    ])  # fmt: skip


def _add_registration(workflow: Workflow, **choices: Any) -> None:
    """Add the node that registers the brain to a template, with its choices."""
    register_brain = pe.Node(
        RegisterBrain(**choices), name='register_brain', mem_gb=1.5, n_procs=choices['num_threads']
    )
    workflow.connect([
        (workflow.get_node('inputnode'), register_brain, [('t1w', 't1w')]),
        (workflow.get_node('prepare_brain'), register_brain, [
            ('brain', 'brain'),
            ('brain_mask', 'brain_mask'),
        ]),
        (register_brain, workflow.get_node('outputnode'),
         [(field, field) for field in REGISTRATION_OUTPUTS]),
    ])  # fmt: skip


def anatomical_wf_of(settings: Settings, model_template: str, omp_nthreads: int) -> Workflow:
    """Return the anatomical workflow with the settings of the user."""
    return init_anatomical_wf(
        skull_strip=settings.skull_strip_t1w,
        strip_template=settings.template,
        model_template=model_template,
        omp_nthreads=omp_nthreads,
        random_seed=settings.random_seed,
        fast=settings.fast,
        offline=settings.offline,
    )


def t1w_inputnode(record: T1wRecord) -> pe.Node:
    """Return the node with a T1w image and the derivatives of other tools that replace steps."""
    inputnode = pe.Node(niu.IdentityInterface(fields=ANATOMICAL_INPUTS), name='inputnode')
    inputnode.inputs.t1w = str(record.path)
    for field, path in (
        ('t1w_derivative', record.derivative_t1w),
        ('mask', record.derivative_mask),
    ):
        if path is not None:
            setattr(inputnode.inputs, field, str(path))
    return inputnode


def _description(skull_strip: str, model_template: str) -> str:
    """Return the methods text of this workflow."""
    extraction = {
        'auto': 'Unless the image was already skull-stripped or a brain mask was available, the '
        'brain was extracted',
        'force': 'The brain was extracted',
        'skip': 'The image was assumed to be skull-stripped.',
    }[skull_strip]
    if skull_strip != 'skip':
        extraction += (
            ' with a whole-head template: its brain mask was transferred to the head by an affine '
            'and a coarse diffeomorphic registration [@ants], and the border was refined by tissue '
            'classes and mathematical morphology.'
        )
    return f"""
#### Anatomical data

Each T1-weighted (T1w) image was reoriented to RAS+ without resampling and corrected for intensity
non-uniformity (N4) [@n4], as implemented in *ANTs* [@antsx]. {extraction} The brain was then
registered to the template {model_template} [@mni2009] by a 12-parameter affine transform with
global correlation as the metric [@ants].
"""
