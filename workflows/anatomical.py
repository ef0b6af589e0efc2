"""The anatomical workflow: from a T1w image to a brain that is placed in the model's template."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.interfaces.anatomical import Conform, PrepareBrain, RegisterBrain
from bids_interp.settings import Settings

INPUTS = ['t1w', 't1w_derivative', 'mask']
OUTPUTS = [
    't1w_preproc',
    'brain_mask',
    'brain',
    'native_to_template',
    'xfm_forward_itk',
    'xfm_inverse_itk',
    'template_brain',
    'skull_stripped_input',
    'conform_report',
]


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
    """Conform one T1w image, find its brain and place it in the model's template.

    Workflow Graph
        .. workflow::
            :graph2use: orig
            :simple_form: yes

            from bids_interp.workflows.anatomical import init_anatomical_wf
            wf = init_anatomical_wf()

    Parameters
    ----------
    skull_strip : {'auto', 'force', 'skip'}
        Look whether the brain was extracted before; always extract; take the image as extracted.
    strip_template : str, optional
        TemplateFlow name of the whole-head template; the best on this machine if not given.
    model_template : str
        Name of the brain template of the model.
    omp_nthreads : int
        Threads of ANTs in each node.
    random_seed : int
        Seed of ANTs.
    fast : bool
        Trade accuracy of the registrations for time.
    offline : bool
        Never ask the network for a template.
    name : str
        Name of the workflow.

    Inputs
    ------
    t1w
        The source image.
    t1w_derivative
        Preprocessed T1w image to use in its place; bias correction is left out.
    mask
        Brain mask of another tool; extraction is left out unless it is forced.

    Outputs
    -------
    t1w_preproc
        Native image: reoriented to RAS+, header repaired, bias-corrected.
    brain_mask
        Native brain mask, 0 and 1.
    brain
        Native brain, 0 outside.
    native_to_template
        JSON file that has, under the same key, the rows of a 4 x 4 matrix: native to template
        world, RAS+ mm; and the quality of the registration.
    xfm_forward_itk, xfm_inverse_itk
        The same as ITK text: T1w to template, template to T1w.
    template_brain
        The brain on the 1 mm grid of the template.
    skull_stripped_input
        Whether the image came without its skull.
    conform_report
        JSON file: what was found and changed, and how the brain was found.
    """
    ants = {'num_threads': omp_nthreads, 'random_seed': random_seed, 'fast': fast}
    workflow = Workflow(name=name)
    workflow.__desc__ = _description(skull_strip, model_template)
    inputnode = pe.Node(niu.IdentityInterface(fields=INPUTS), name='inputnode')
    outputnode = pe.Node(niu.IdentityInterface(fields=OUTPUTS), name='outputnode')
    conform = pe.Node(Conform(), name='conform', mem_gb=1.0)
    prepare_brain = pe.Node(
        PrepareBrain(
            skull_strip=skull_strip, strip_template=strip_template, offline=offline, **ants
        ),
        name='prepare_brain',
        mem_gb=2.0,
        n_procs=omp_nthreads,
    )
    register_brain = pe.Node(
        RegisterBrain(template=model_template, offline=offline, **ants),
        name='register_brain',
        mem_gb=1.5,
        n_procs=omp_nthreads,
    )
    workflow.connect([
        (inputnode, conform, [('t1w', 't1w'), ('t1w_derivative', 't1w_derivative')]),
        (inputnode, prepare_brain, [
            ('t1w', 't1w'),
            ('t1w_derivative', 't1w_derivative'),
            ('mask', 'mask'),
        ]),
        (inputnode, register_brain, [('t1w', 't1w')]),
        (conform, prepare_brain, [
            ('conformed', 'conformed'),
            ('conform_report', 'conform_report'),
        ]),
        (prepare_brain, register_brain, [('brain', 'brain')]),
        (prepare_brain, outputnode, [
            ('t1w_preproc', 't1w_preproc'),
            ('brain_mask', 'brain_mask'),
            ('brain', 'brain'),
            ('skull_stripped_input', 'skull_stripped_input'),
            ('conform_report', 'conform_report'),
        ]),
        (register_brain, outputnode, [
            ('native_to_template', 'native_to_template'),
            ('xfm_forward_itk', 'xfm_forward_itk'),
            ('xfm_inverse_itk', 'xfm_inverse_itk'),
            ('template_brain', 'template_brain'),
        ]),
    ])  # fmt: skip
    return workflow


def anatomical_wf_of(settings: Settings, model_template: str, omp_nthreads: int) -> Workflow:
    """Make the anatomical workflow as the user's settings want it."""
    return init_anatomical_wf(
        skull_strip=settings.skull_strip_t1w,
        strip_template=settings.template,
        model_template=model_template,
        omp_nthreads=omp_nthreads,
        random_seed=settings.random_seed,
        fast=settings.fast,
        offline=settings.offline,
    )


def _description(skull_strip: str, model_template: str) -> str:
    """Methods sentences of this workflow."""
    extraction = {
        'auto': 'Unless the image was skull-stripped already or a brain mask was given, the brain '
        'was extracted',
        'force': 'The brain was extracted',
        'skip': 'The image was taken as skull-stripped already.',
    }[skull_strip]
    if skull_strip != 'skip':
        extraction += (
            ' with a whole-head template: an affine and a coarse diffeomorphic registration '
            '[@ants] brought its brain mask to the head, and the border was fitted by tissue '
            'classes and mathematical morphology.'
        )
    return f"""
#### Anatomical data

Each T1-weighted (T1w) image was reoriented to RAS+ without resampling and corrected for intensity
non-uniformity (N4) [@n4], as implemented in *ANTs* [@antsx]. {extraction} The brain was then
registered to the template {model_template} [@mni2009] by a 12-parameter affine with global
correlation as metric [@ants].
"""
