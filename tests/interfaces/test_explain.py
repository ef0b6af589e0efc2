"""Nodes of the explain workflow: what they write, and what makes them run again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bids_interp.bids.explain_files import realised_files
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.bids.write.sidecars import COLUMNS
from bids_interp.errors import ImageError, ModelError
from bids_interp.interfaces.explain import (
    REMEASURED_COLUMNS,
    Classify,
    Counterfactual,
    PrepareInput,
    Remeasure,
    Simulate,
)
from bids_interp.interfaces.model_inputs import load_image, load_input, load_velocity
from bids_interp.models.bundle.fingerprint import image_fingerprint, salted, subject_keys
from bids_interp.models.bundle.reader import load_bundle
from bids_interp.models.explain.explainer import simulate
from bids_interp.records import to_plain

DOSES = [0.5, 1.0]


def read_table(path):
    lines = Path(path).read_text().splitlines()
    return [dict(zip(lines[0].split('\t'), line.split('\t'), strict=True)) for line in lines[1:]]


@pytest.fixture
def prepare(tmp_path, make_subject):
    """Run the first node with a bundle."""
    subject = make_subject('oblique')

    def run(bundle):
        node = PrepareInput(
            model=str(bundle.path),
            model_hash=bundle.version_hash,
            t1w=str(subject.brain),
            dataset_key='doi:10.1/x',
            participant='01',
            brain=str(subject.brain),
            t1w_preproc=str(subject.brain),
            native_to_template=str(subject.native_to_template),
        )
        return node.run(cwd=str(tmp_path)).outputs

    return run


@pytest.fixture
def network(prepare, tiny_bundle):
    """Inputs of every node that runs a network."""
    prepared = prepare(tiny_bundle)
    return {
        'model': str(tiny_bundle.path),
        'model_hash': tiny_bundle.version_hash,
        'model_input': prepared.model_input,
        'membership': prepared.membership,
    }


def test_the_whole_head_is_taken_for_a_model_of_heads(tmp_path, make_subject):
    brain = make_subject('oblique').brain
    image = nib.load(brain)
    inside = image.get_fdata() > 0
    head = nib.Nifti1Image(np.where(inside, image.get_fdata(), 300.0), image.affine)
    nib.save(head, tmp_path / 'head.nii.gz')
    files = str(brain), str(tmp_path / 'head.nii.gz')
    assert (load_input(*files, skull=False, source='x')[0][~inside] == 0).all()
    assert (load_input(*files, skull=True, source='x')[0][~inside] == 300).all()
    with pytest.raises(ImageError, match=r'sub-07_T1w\.nii'):
        load_input(str(brain), str(brain), skull=True, source='sub-07_T1w.nii')


def test_the_input_of_the_classifier_lies_on_the_grid_of_the_model(prepare, tiny_bundle):
    image = nib.load(prepare(tiny_bundle).model_input)
    np.testing.assert_allclose(image.affine, tiny_bundle.grid.affine, atol=1e-4)
    assert image.header['sform_code'] == 4
    # The subject's brain is the template's, so the input looks like the template there.
    expected = tiny_bundle.mean_image[0, 0].numpy()
    assert np.corrcoef(image.get_fdata().ravel(), expected.ravel())[0, 1] > 0.95


def test_a_subject_of_the_training_set_is_explained_by_the_other_folds(
    tmp_path, prepare, tiny_bundle, make_subject
):
    new = json.loads(Path(prepare(tiny_bundle).membership).read_text())
    assert new == {'InTrainingSet': False, 'FoldsUsed': [0, 1], 'HeldOut': True}
    known = tmp_path / 'known'
    shutil.copytree(tiny_bundle.path, known)
    config = json.loads((known / 'config.json').read_text())
    image = nib.load(prepare(tiny_bundle).model_input).get_fdata(dtype=np.float32)
    sketch = tiny_bundle.sketch(torch.from_numpy(image)[None, None])
    config['training_scans'] = [{'sketch': sketch, 'folds': [1]}]
    (known / 'config.json').write_text(json.dumps(config))
    membership = json.loads(Path(prepare(load_bundle(known)).membership).read_text())
    assert membership == {'InTrainingSet': True, 'FoldsUsed': [1], 'HeldOut': True}
    # A bundle of version 0.1.0; a classifier that was brought along has seen it in all its folds.
    del config['training_scans']
    fingerprint = image_fingerprint(make_subject('oblique').brain)
    key = subject_keys(fingerprint, 'another name', 'x')[0]
    config |= {'salt': 'a grain', 'classifier_subjects': [salted('a grain', key)]}
    (known / 'config.json').write_text(json.dumps(config))
    membership = json.loads(Path(prepare(load_bundle(known)).membership).read_text())
    assert membership == {'InTrainingSet': True, 'FoldsUsed': [0, 1], 'HeldOut': False}


def test_classify_simulate_and_measure(tmp_path, network, tiny_bundle):
    observed = Classify(**network).run(cwd=str(tmp_path)).outputs.observed
    simulated = Simulate(**network).run(cwd=str(tmp_path)).outputs
    done = Counterfactual(
        velocity=simulated.velocity, observed=observed, doses=DOSES, **network
    ).run(cwd=str(tmp_path))
    prediction = json.loads(Path(done.outputs.prediction).read_text())
    assert prediction['Target'] == to_plain(tiny_bundle.target)
    assert prediction['FoldsUsed'] == [0, 1]
    assert set(prediction['Simulated']) == {'inject050', 'inject100', 'remove050', 'remove100'}
    folds = prediction['Observed']['Folds']
    logits = [fold['Logit'] for fold in folds]
    assert prediction['Observed']['LogitMean'] == pytest.approx(np.mean(logits))
    assert prediction['Observed']['LogitSD'] == pytest.approx(np.std(logits))
    for fold in folds:
        calibrated = 1 / (1 + np.exp(-fold['Logit'] / fold['Temperature'] - fold['Intercept']))
        assert fold['Probability'] == pytest.approx(calibrated, abs=1e-5)

    responses = read_table(done.outputs.dose_response)
    assert set(responses[0]) == set(COLUMNS['dose_response'])
    assert len(responses) == 2 + 2 * 2 * 4
    injected = [
        float(row['logit'])
        for row in responses
        if (row['direction'], row['dose']) == ('inject', '1')
    ]
    listed = [fold['Logit'] for fold in prediction['Simulated']['inject100']['Folds']]
    np.testing.assert_allclose(listed, injected, rtol=1e-5)
    metrics = read_table(done.outputs.counterfactual)
    assert set(metrics[0]) == set(COLUMNS['counterfactual'])
    assert [(row['direction'], row['dose']) for row in metrics] == [
        ('inject', '0.5'),
        ('inject', '1'),
        ('remove', '0.5'),
        ('remove', '1'),
    ]


def test_velocities_are_the_mean_over_the_folds_in_mm(tmp_path, network, tiny_bundle):

    outputs = Simulate(**network).run(cwd=str(tmp_path)).outputs
    image = torch.from_numpy(load_image(network['model_input'])[0])[None, None]
    expected = simulate(tiny_bundle, image, (0, 1))
    for path, direction in zip(outputs.velocity, ('inject', 'remove'), strict=True):
        velocity, grid = load_velocity(path)
        np.testing.assert_allclose(velocity, expected.velocity[direction], atol=1e-5)
        assert grid.matches(tiny_bundle.grid)
        assert np.abs(velocity).max() > 0.01
    facts = json.loads(Path(outputs.velocity_facts).read_text())
    assert len(facts) == 2
    assert facts['inject']['SpeedMaxMM'] >= facts['inject']['SpeedMeanMM'] > 0
    assert facts['inject']['SDAcrossFoldsMeanMM'] > 0


def test_a_node_runs_again_if_and_only_if_the_model_is_another(tmp_path, network):
    moved = tmp_path / 'moved'
    shutil.copytree(network['model'], moved)
    same = Simulate(**network).inputs.get_hashval()[1]
    assert Simulate(**{**network, 'model': str(moved)}).inputs.get_hashval()[1] == same
    for change in ({'device': 'cuda:0'}, {'use_gpu': True}, {'num_threads': 2}):
        assert Simulate(**network, **change).inputs.get_hashval()[1] == same
    other = Simulate(**{**network, 'model_hash': 'another'})
    assert other.inputs.get_hashval()[1] != same


def test_a_model_that_changes_during_the_run_is_noticed(tmp_path, network):
    node = Simulate(**{**network, 'model_hash': 'another'})
    with pytest.raises(ModelError, match=r'tiny.*\banother\b'):
        node.run(cwd=str(tmp_path))


@pytest.fixture
def simulations(tmp_path, make_subject):
    """Inputs of the node that measures again; maps claim 10 % times the dose, right and left."""
    subject = make_subject('RAS')
    brain, grid = load_image(subject.template_brain)
    paths = {'simulated': [], 'log_jacobian': []}
    for name, quantity in (('simulated', 'simulated'), ('log_jacobian', 'logjacobian')):
        for file in realised_files(quantity, 'template', DOSES):
            sign = file.dose if file.direction == 'inject' else -file.dose
            change = 0.1 * sign * np.sign(grid.world_coordinates()[0])
            data = brain * (1 + sign) if quantity == 'simulated' else np.log1p(change)
            path = tmp_path / f'{file.stem}.nii.gz'
            paths[name].append(str(write_nifti(path, data, grid.affine, template=True)))
    return {
        'brain': subject.template_brain,
        'mask': subject.template_mask,
        'template': 'MNI152NLin2009aSym',
        **paths,
    }


def test_simulations_at_dose_1_are_measured_again(tmp_path, simulations, monkeypatch):
    """The registration is replaced by one that finds half of a known change."""

    def register(image, template, grid, **_):
        share = np.median(image[template > 0] / template[template > 0]) - 1
        return np.log1p(0.05 * share * np.sign(grid.world_coordinates()[0]))

    monkeypatch.setattr('bids_interp.evaluation.remeasure.register_log_jacobian', register)
    done = Remeasure(**simulations).run(cwd=str(tmp_path)).outputs
    facts = json.loads(Path(done.remeasured_facts).read_text())
    assert list(facts) == ['inject100', 'remove100']
    rows = read_table(done.remeasured)
    assert tuple(rows[0]) == REMEASURED_COLUMNS
    assert set(COLUMNS['remeasured']) >= set(REMEASURED_COLUMNS)
    for direction, sign in (('inject', 1), ('remove', -1)):
        assert facts[f'{direction}100']['Slope'] == pytest.approx(0.5, abs=0.05)
        assert facts[f'{direction}100']['R'] == pytest.approx(1, abs=0.01)
        own = [row for row in rows if row['direction'] == direction]
        assert len(own) == facts[f'{direction}100']['Regions'] > 15
        right = next(r for r in own if (r['region'], r['side']) == ('putamen', 'right'))
        assert float(right['claimed_pct']) == pytest.approx(10 * sign, abs=0.1)
        assert float(right['remeasured_pct']) == pytest.approx(5 * sign, abs=0.1)


def test_a_registration_that_gives_up_costs_one_simulation(
    tmp_path, simulations, monkeypatch, caplog
):
    calls = []

    def register(image, template, grid, **_):
        calls.append(grid)
        if len(calls) == 1:
            raise ImageError('ANTs gave up.')
        return np.log1p(0.1 * np.sign(-grid.world_coordinates()[0]))

    monkeypatch.setattr('bids_interp.evaluation.remeasure.register_log_jacobian', register)
    done = Remeasure(**simulations).run(cwd=str(tmp_path)).outputs
    facts = json.loads(Path(done.remeasured_facts).read_text())
    assert facts['inject100']['Slope'] is None
    assert facts['inject100']['R'] is None
    assert facts['remove100']['R'] == pytest.approx(1, abs=0.01)
    cells = {
        row['direction']: row['remeasured_pct'] == 'n/a' for row in read_table(done.remeasured)
    }
    assert cells == {'inject': True, 'remove': False}
    assert [r.levelname for r in caplog.records if r.name.startswith('bids_interp')] == ['WARNING']


def test_another_template_has_no_regions(tmp_path, simulations, monkeypatch):
    monkeypatch.setattr(
        'bids_interp.evaluation.remeasure.register_log_jacobian',
        lambda image, template, grid, **_: np.zeros(grid.shape),
    )
    done = Remeasure(**{**simulations, 'template': 'Mouse'}).run(cwd=str(tmp_path)).outputs
    assert read_table(done.remeasured) == []
    facts = json.loads(Path(done.remeasured_facts).read_text())
    assert facts['inject100'] == {'Slope': None, 'R': None, 'Regions': 0}
