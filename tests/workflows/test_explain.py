"""The explain workflow builds for every choice, and asks for what it needs."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from bids_interp.anatomical.spaces.atlas import Atlas
from bids_interp.workflows.explain import init_explain_wf


def build(bundle, **choices):
    return init_explain_wf(bundle=bundle, dataset_key='doi:10.1/x', participant='01', **choices)


@pytest.mark.parametrize(
    ('spaces', 'doses', 'device'),
    list(
        itertools.product(
            [('T1w',), ('template',), ('T1w', 'MNI152NLin2009aSym')],
            [(1.0,), (0.25, 0.5, 1.0)],
            ['cpu', 'cuda:0', 'auto'],
        )
    ),
)
def test_the_graph_builds_for_every_choice(tiny_bundle, spaces, doses, device):
    workflow = build(tiny_bundle, output_spaces=spaces, doses=doses, device=device)
    names = set(workflow.list_node_names())
    assert ('realise_native' in names) is ('T1w' in spaces)
    assert ('realise_template' in names) is (spaces != ('T1w',))
    assert len(workflow._create_flat_graph()) == len(names)
    assert workflow.get_node('counterfactual').inputs.doses == list(doses)


def test_nodes_are_few_and_named_like_their_variables(tiny_bundle):
    names = set(build(tiny_bundle).list_node_names()) - {'inputnode', 'outputnode'}
    assert names == {
        'prepare_input',
        'measure_anatomy',
        'classify',
        'simulate',
        'counterfactual',
        'realise_native',
        'realise_template',
    }


@pytest.mark.parametrize(
    ('spaces', 'doses', 'source'),
    [
        (('T1w', 'template'), (0.5, 1.0), 'realise_template'),
        (('template',), (0.5,), 'realise_remeasured'),
        (('T1w',), (1.0,), 'realise_remeasured'),
    ],
)
def test_dose_1_in_the_template_is_measured_again(tiny_bundle, spaces, doses, source):
    workflow = build(tiny_bundle, output_spaces=spaces, doses=doses, remeasure=True)
    graph = workflow._create_flat_graph()
    node = next(node for node in graph if node.name == 'remeasure')
    assert source in {one.name for one in graph.predecessors(node)}
    assert 1.0 in workflow.get_node(source).inputs.doses
    assert ('realise_remeasured' in workflow.list_node_names()) is (source != 'realise_template')
    assert workflow.get_node('remeasure').inputs.template == tiny_bundle.template


@pytest.mark.parametrize(('device', 'waits'), [('cpu', False), ('cuda', True), ('cuda:1', True)])
def test_networks_wait_for_a_gpu_only_where_they_use_one(tiny_bundle, device, waits):
    workflow = build(tiny_bundle, device=device, omp_nthreads=3)
    for name in ('classify', 'simulate', 'counterfactual'):
        node = workflow.get_node(name)
        assert node.is_gpu_node() is waits
        assert node.inputs.device == device
        assert node.n_procs == 3
    assert not workflow.get_node('realise_native').is_gpu_node()


def test_other_templates_and_regions_come_from_maps_that_need_not_be_written(tiny_bundle):
    atlas = Atlas(Path(__file__), 'MNI152NLin6Asym', {1: 'one'}, 'One')
    workflow = build(tiny_bundle, output_spaces=('Colin27', 'MNI152NLin6Asym'), atlas=atlas)
    graph = workflow._create_flat_graph()
    before = {node.name: {one.name for one in graph.predecessors(node)} for node in graph}
    for name in ('resample_Colin27', 'resample_MNI152NLin6Asym'):
        assert 'realise_template' in before[name]
    assert 'realise_native' in before['measure_regions']
    node = workflow.get_node('measure_regions').inputs
    assert (node.template, node.atlas_space) == (tiny_bundle.template, 'MNI152NLin6Asym')
    outputs = workflow.get_node('outputnode').outputs.copyable_trait_names()
    assert {'logjacobian_Colin27', 'template_mask_MNI152NLin6Asym', 'regions'} <= set(outputs)
    assert 'MNI152NLin6Asym' in workflow.visit_desc()
    names = set(build(tiny_bundle, output_spaces=('T1w',), atlas=atlas).list_node_names())
    assert 'realise_template' not in names


def test_the_methods_text_names_the_model_and_the_sign(tiny_bundle):
    text = build(tiny_bundle).visit_desc()
    assert f'*{tiny_bundle.name}*' in text
    assert tiny_bundle.version_hash in text
    assert re.search(r'positive\b[^.]*\bexpansion\b', text)
    assert 'demonstration' in text
