"""The node of the saliency maps, and the names under which they are written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype.interfaces.base.traits_extension import rebase_path_traits, resolve_path_traits
from nipype.pipeline import engine as pe

from bids_interp.bids.write.atomic import is_no_map, write_json
from bids_interp.bids.write.dataset_description import IGNORED
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.bids.write.scan_outputs import ImageOutputs, plan_explain
from bids_interp.constants import SALIENCY_METHODS
from bids_interp.errors import UsageError
from bids_interp.interfaces.anatomical import _MeasureAnatomyOutputSpec
from bids_interp.interfaces.model_inputs import load_image
from bids_interp.interfaces.saliency import Saliency, _SaliencyOutputSpec
from bids_interp.interfaces.sink import DerivativesSink
from bids_interp.saliency.maps import fold_mean_saliency
from bids_interp.settings import Settings
from bids_interp.workflows.derivatives import init_derivatives_wf
from bids_interp.workflows.explain import OUTPUTS, init_explain_wf

METHODS = ['gradient', 'guidedbackprop', 'deeplift']
STEM = 'sub-01/anat/sub-01_run-2'
SPACED = f'{STEM}_space-MNI152NLin2009aSym_res-model'


@pytest.fixture
def inputs(tmp_path, tiny_bundle):
    """Inputs of the node: the mean image, a little brighter on one side."""
    data = tiny_bundle.mean_image[0, 0].numpy().copy()
    data[: len(data) // 2] *= 1.1
    path = write_nifti(tmp_path / 'input.nii.gz', data, tiny_bundle.grid.affine, template=True)
    membership = {'InTrainingSet': True, 'FoldsUsed': [1]}
    return {
        'model': str(tiny_bundle.path),
        'model_hash': tiny_bundle.version_hash,
        'model_input': str(path),
        'membership': str(write_json(tmp_path / 'membership.json', membership)),
        'methods': METHODS,
        'random_seed': 5,
    }


def plan_of(methods, bundle):
    context = ImageOutputs(
        source=f'/raw/{STEM}_T1w.nii.gz',
        out_dir='/out',
        roots={'raw': '/raw'},
        template=bundle.template,
        model_resolution='Coarse.',
        common={'ModelName': bundle.name},
    )
    planned = plan_explain(context, (1.0,), ('T1w',), methods)
    return {key: planned[key] for key in planned if key.startswith('saliency')}


def test_maps_lie_on_the_grid_of_the_model(tmp_path, inputs, tiny_bundle):
    outputs = Saliency(**inputs).run(cwd=str(tmp_path)).outputs
    assert [is_no_map(path) for path in outputs.saliency] == [False, True, False]
    image = nib.load(outputs.saliency[0])
    np.testing.assert_allclose(image.affine, tiny_bundle.grid.affine, atol=1e-4)
    assert (image.header['sform_code'], image.header['qform_code']) == (4, 4)
    shown, _ = load_image(inputs['model_input'])
    # Only the fold that did not see the subject.
    expected, _ = fold_mean_saliency(
        tiny_bundle, tiny_bundle.mean_image.new_tensor(shown)[None, None], (1,), ['gradient']
    )
    np.testing.assert_allclose(image.get_fdata(), expected['gradient'].map, atol=1e-6)
    listed = json.loads(Path(outputs.saliency_methods).read_text())
    assert listed['Methods'] == ['gradient', 'deeplift']
    assert [entry['Method'] for entry in listed['Skipped']] == ['guidedbackprop']
    assert 'ReLU' in listed['Skipped'][0]['Reason']


def test_only_maps_that_exist_are_written(tmp_path, inputs, tiny_bundle):
    made = Saliency(**inputs).run(cwd=str(tmp_path)).outputs
    sink = DerivativesSink(plan_of(METHODS, tiny_bundle), out_dir=str(tmp_path / 'out'))
    for name in ('saliency', 'saliency_facts', 'saliency_methods'):
        setattr(sink.inputs, name, getattr(made, name))
    sink.inputs.membership = inputs['membership']
    sink.run(cwd=str(tmp_path))
    out = tmp_path / 'out'
    assert {path.relative_to(out).as_posix() for path in out.rglob('*') if path.is_file()} == {
        f'{SPACED}_desc-gradient_saliency.nii.gz',
        f'{SPACED}_desc-gradient_saliency.json',
        f'{SPACED}_desc-deeplift_saliency.nii.gz',
        f'{SPACED}_desc-deeplift_saliency.json',
        f'{STEM}_desc-methods_saliency.json',
    }
    gradient = json.loads((out / f'{SPACED}_desc-gradient_saliency.json').read_text())
    assert gradient['Title'] == 'Gradient'
    assert gradient['Sign'].startswith('positive = a brighter voxel raises')
    assert gradient['FoldsUsed'] == [1]
    assert gradient['Resolution'] == 'Coarse.'
    assert gradient['Software'].startswith('captum ')
    assert 'CompletenessError' not in gradient
    deeplift = json.loads((out / f'{SPACED}_desc-deeplift_saliency.json').read_text())
    assert deeplift['Baseline'].endswith(' control')
    assert isinstance(deeplift['CompletenessError'], float)


def test_every_method_has_its_name_and_the_validator_is_told(tiny_bundle):
    planned = plan_of(SALIENCY_METHODS, tiny_bundle)
    assert [output.name for output in planned['saliency']] == [
        f'{SPACED}_desc-{method}_saliency.nii.gz' for method in SALIENCY_METHODS
    ]
    assert '*_saliency.*' in IGNORED
    assert plan_of((), tiny_bundle) == {}


def test_the_workflow_has_the_node_only_where_it_is_asked_for(tmp_path, inputs, tiny_bundle):
    def build(**choices):
        return init_explain_wf(bundle=tiny_bundle, dataset_key='x', participant='01', **choices)

    assert 'saliency_maps' not in build().list_node_names()
    assert '@captum' not in build().visit_desc()
    workflow = build(saliency=('gradient', 'occlusion'), device='cuda:1', random_seed=5)
    node = workflow.get_node('saliency_maps')
    assert node.inputs.methods == ['gradient', 'occlusion']
    assert (node.inputs.device, node.inputs.random_seed) == ('cuda:1', 5)
    assert node.is_gpu_node()
    assert '[@captum] (gradient, occlusion;' in ' '.join(workflow.visit_desc().split())


def test_the_sinks_take_what_the_workflow_gives(tmp_path, tiny_bundle):
    def inputs_of(**choices):
        workflow = init_derivatives_wf(
            source=tmp_path / f'{STEM}_T1w.nii.gz',
            out_dir=tmp_path / 'out',
            roots={'raw': tmp_path},
            bundle=tiny_bundle,
            **choices,
        )
        return set(workflow.get_node('inputnode').inputs.copyable_trait_names())

    more = inputs_of(saliency=('occlusion',)) - inputs_of()
    assert more == {'saliency', 'saliency_facts', 'saliency_methods'}
    assert more < set(OUTPUTS)


def test_maps_are_not_made_again_without_need(tmp_path, inputs):
    def made(**changes):
        workflow = pe.Workflow('scan_wf', base_dir=str(tmp_path))
        workflow.add_nodes([pe.Node(Saliency(**{**inputs, **changes}), name='saliency_maps')])
        workflow.run(plugin='Linear')
        found = next((tmp_path / 'scan_wf' / 'saliency_maps').glob('saliency_gradient.nii.gz'))
        return found.stat().st_mtime_ns

    first = made()
    assert made() == first
    assert made(methods=['gradient']) > first


def test_methods_are_read_with_care():
    def methods(*given):
        return Settings('/in', '/out', saliency=given).saliency

    assert methods() == ()
    assert methods('all') == SALIENCY_METHODS
    assert methods('Grad-CAM', 'gradient', 'gradcam') == ('gradient', 'gradcam')
    with pytest.raises(UsageError, match="'smoothgrd'.* smoothgrad"):
        methods('smoothgrd')
    kept = Settings('/in', '/out', saliency=['occlusion'])
    assert Settings.from_toml(kept.to_toml()) == kept


@pytest.mark.parametrize(
    ('spec', 'name'), [(_SaliencyOutputSpec, 'saliency'), (_MeasureAnatomyOutputSpec, 'anatomy')]
)
def test_maps_that_may_be_missing_move_with_the_work_directory(spec, name):
    """nipype keeps results relative to it, and finds them where it lies now."""
    trait, value = spec().trait(name), '/before/node/map.nii.gz'
    kept = rebase_path_traits(trait, [value] if name == 'saliency' else value, '/before')
    found = resolve_path_traits(trait, kept, '/now')
    assert str(np.atleast_1d(found)[0]) == '/now/node/map.nii.gz'


@pytest.mark.parametrize(('capacity', 'is_told'), [('pattern', True), ('residual', False)])
def test_the_methods_cite_the_shrinkage_of_patterns_only(tiny_bundle, capacity, is_told):
    simulator = replace(tiny_bundle.config.simulator, capacity=capacity)
    bundle = replace(tiny_bundle, config=replace(tiny_bundle.config, simulator=simulator))
    workflow = init_explain_wf(bundle=bundle, dataset_key='x', participant='01')
    assert ('@adaptiveshrinkage' in workflow.visit_desc()) == is_told
