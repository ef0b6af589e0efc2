"""Sidecars and the plan of outputs: every file described, every source an output or an input."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_interp.bids import names
from bids_interp.bids.write import scan_outputs as plan
from bids_interp.bids.write import sidecars

COMMON = {'ModelName': 'toy', 'ModelHash': 'abc', 'Demonstration': False, 'RandomSeed': 7}


def make_outputs(template='MNI152NLin2009aSym', **changes):
    return plan.ImageOutputs(
        source=Path('/raw/sub-01/anat/sub-01_run-2_T1w.nii.gz'),
        out_dir=Path('/out'),
        roots={'raw': Path('/raw'), 'prep': Path('/prep')},
        template=template,
        model_resolution='Coarse.',
        common=COMMON,
        **changes,
    )


def everything(outputs, doses=(0.5, 1.0), spaces=('T1w', 'template')):
    plans = plan.plan_anatomical(outputs) | plan.plan_explain(outputs, doses, spaces)
    return {output.name: output for outputs in plans.values() for output in outputs}


def test_every_file_is_described_and_has_its_model_and_seed():
    for name, output in everything(make_outputs()).items():
        assert output.metadata['Description'], name
        assert output.metadata['Sources'], name
        assert COMMON.items() <= output.metadata.items(), name


def test_every_source_is_a_planned_output_or_lies_in_an_input_dataset():
    outputs = everything(make_outputs())
    for name, output in outputs.items():
        for uri in output.metadata['Sources']:
            dataset, path = uri.removeprefix('bids:').split(':', 1)
            assert dataset == 'raw' or path in outputs, (name, uri)
            assert path != name


def test_all_names_differ_and_both_directions_and_doses_are_there():
    outputs = everything(make_outputs())
    stem = 'sub-01/anat/sub-01_run-2'
    for space in ('', '_space-MNI152NLin2009aSym_res-1'):
        for label in ('inject050', 'inject100', 'remove050', 'remove100'):
            for ending in ('T1w', 'logjacobian'):
                assert f'{stem}{space}_desc-{label}_{ending}.nii.gz' in outputs
    assert len(outputs) == 6 + 1 + 1 + 2 + 3 + 16


@pytest.mark.parametrize(
    ('spaces', 'native', 'template'),
    [
        (('T1w',), True, False),
        (('template',), False, True),
        (('MNI152NLin2009aSym', 'T1w'), True, True),
    ],
)
def test_maps_are_planned_only_for_the_spaces_asked_for(spaces, native, template):
    planned = plan.plan_explain(make_outputs(), (1.0,), spaces)
    assert ('logjacobian_native' in planned) is native
    assert ('logjacobian_template' in planned) is template
    assert 'velocity' in planned


def test_the_sign_of_the_maps_is_written_down():
    outputs = everything(make_outputs())
    maps = [
        o
        for name, o in outputs.items()
        if name.endswith('_logjacobian.nii.gz') and 'desc-anatomy' not in name
    ]
    assert len(maps) == 8
    for output in maps:
        assert output.metadata['Sign'].startswith('positive = local expansion')
        assert 'volume change % = 100*(exp(logJ)-1)' in output.metadata['Sign']
        assert output.metadata['Dose'] in (0.5, 1.0)
        assert output.metadata['Direction'] in names.DIRECTIONS
    anatomy = next(o for name, o in outputs.items() if 'desc-anatomy' in name)
    assert anatomy.metadata['Sign'].startswith('positive = larger')
    velocity = next(o for name, o in outputs.items() if name.endswith('inject_velocity.nii.gz'))
    assert velocity.metadata['Units'] == 'mm'
    assert 'RAS+' in velocity.metadata['Convention']


def test_files_with_res_say_their_resolution():
    for name, output in everything(make_outputs()).items():
        assert ('Resolution' in output.metadata) is ('_res-' in name), name


def test_only_a_template_that_bids_does_not_know_needs_a_reference():
    for template, needed in (('MNI152NLin2009aSym', False), ('Study', True)):
        outputs = everything(make_outputs(template))
        spaced = [o.metadata for name, o in outputs.items() if f'_space-{template}_' in name]
        assert spaced
        assert all(('SpatialReference' in metadata) is needed for metadata in spaced)


def test_precomputed_files_are_named_as_sources():
    outputs = make_outputs(
        derivative_t1w=Path('/prep/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz'),
        derivative_mask=Path('/prep/sub-01/anat/sub-01_desc-brain_mask.nii.gz'),
    )
    planned = plan.plan_anatomical(outputs)
    sources = planned['t1w_preproc'][0].metadata['Sources']
    assert sources == ['bids:prep:sub-01/anat/sub-01_desc-preproc_T1w.nii.gz']
    sources = planned['brain_mask'][0].metadata['Sources']
    assert sources == ['bids:prep:sub-01/anat/sub-01_desc-brain_mask.nii.gz']


def test_every_column_has_a_description():
    for columns in sidecars.COLUMNS.values():
        for name, column in columns.items():
            assert column['Description'].endswith('.'), name
    content = sidecars.build_sidecar('counterfactual', COMMON, ['bids::x'])
    assert content['reversibility_rmse']['Units'] == '1'
