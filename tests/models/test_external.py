from __future__ import annotations

import copy
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bids_interp.errors import ModelError, UsageError
from bids_interp.models.external.card import ClassifierCard
from bids_interp.models.external.checks import Check, CheckError, check_scans
from bids_interp.models.external.loader import (
    ExternalSource,
    check_classifier,
    load_external,
    source_of,
)
from bids_interp.models.external.network import ExternalClassifier
from bids_interp.models.networks.registry import build_classifier
from helpers.exports import CARD, SHAPE, export, seeded


def card_with(**changes: object) -> ClassifierCard:
    return ClassifierCard.from_dict({**CARD, **changes})


@pytest.fixture(scope='module')
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of :func:`seeded`, one logit."""
    return export(seeded(), tmp_path_factory.mktemp('export') / 'elsewhere.pt2')


@pytest.fixture
def images() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(3, 1, *SHAPE)


def test_an_export_says_what_the_network_said(exported: Path, images: torch.Tensor):
    loaded = load_external(source_of(exported), card_with())
    torch.testing.assert_close(loaded(images), seeded()(images))
    torch.testing.assert_close(loaded(images[:1]), seeded()(images[:1]))
    check_classifier(loaded, card_with())


def test_gradients_reach_the_input_of_a_frozen_export(exported: Path, images: torch.Tensor):
    loaded = load_external(source_of(exported), card_with())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    gradients = []
    for network in (loaded, seeded()):
        asked = images.clone().requires_grad_(True)
        gradients += torch.autograd.grad(network(asked).sum(), asked)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0


def test_modes_and_copies_of_an_export(exported: Path, images: torch.Tensor):
    loaded = load_external(source_of(exported), card_with())
    expected = loaded(images)
    assert not loaded.train().eval().requires_grad_(False).training
    torch.testing.assert_close(loaded.train()(images), expected)
    torch.testing.assert_close(copy.deepcopy(loaded)(images), expected)


def test_an_export_moves_with_the_devices_in_its_graph(exported: Path, images: torch.Tensor):
    """The graph makes a tensor on the device of the export; ``meta`` stands for a GPU."""
    loaded = load_external(source_of(exported), card_with())
    assert 'cpu' in loaded.network.code
    assert loaded.to('meta')(images.to('meta')).device.type == 'meta'
    assert 'cpu' not in loaded.network.code
    assert {tensor.device.type for tensor in [*loaded.parameters(), *loaded.buffers()]} == {'meta'}


def test_an_export_runs_in_mixed_precision(exported: Path, images: torch.Tensor):
    loaded = load_external(source_of(exported), card_with())
    exact = loaded(images)
    with torch.autocast('cpu', torch.bfloat16):
        rounded = loaded(images)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.05, rtol=0.05)


def test_axes_in_another_order(tmp_path: Path, images: torch.Tensor):
    network = nn.Sequential(nn.Conv3d(1, 2, (1, 2, 3)), nn.Flatten(), nn.Linear(1408, 1))
    path = export(network.eval(), tmp_path / 'turned.pt2', shape=SHAPE[::-1])
    loaded = load_external(source_of(path), card_with(axis_order='ZYX'))
    torch.testing.assert_close(loaded(images), network(images.transpose(2, 4)))


def test_probabilities_become_log_odds(images: torch.Tensor):
    card = card_with(output='probability')
    network = ExternalClassifier(seeded(tail=nn.Sigmoid()), card)
    torch.testing.assert_close(network(images), seeded()(images), atol=1e-4, rtol=1e-4)
    check_classifier(network, card)


@pytest.mark.parametrize(
    ('tail', 'changes'),
    [
        (nn.Sigmoid(), {'output': 'probability'}),
        (nn.Softmax(dim=1), {'output': 'multiclass', 'softmaxed': True}),
    ],
)
def test_probabilities_are_not_rounded_in_mixed_precision(
    tail: nn.Module, changes: dict, images: torch.Tensor
):
    sure = nn.Linear(images[0].numel(), 1 if changes['output'] == 'probability' else 2)
    nn.init.zeros_(sure.weight)
    nn.init.constant_(sure.weight[-1], 1e-3)
    sure.bias.data.copy_(torch.tensor([0.0, 7.0])[-len(sure.bias) :])
    network = ExternalClassifier(nn.Sequential(nn.Flatten(), sure, tail), card_with(**changes))
    answers = []
    for enabled in (False, True):
        asked = images.clone().requires_grad_(True)
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            logits = network(asked)
        answers.append((logits, *torch.autograd.grad(logits.sum(), asked)))
    torch.testing.assert_close(*answers)
    # bfloat16 knows no number between 0.996 and 1, so that no gradient would be left.
    assert answers[1][0].min() > 7
    assert answers[1][1].abs().min() > 0


def test_a_saturated_probability_stays_finite():
    card = card_with(output='probability')
    sure = ExternalClassifier(nn.Flatten(), card)
    logits = sure(torch.tensor([[1.0], [0.0]]).view(2, 1, 1, 1, 1))
    torch.testing.assert_close(logits, torch.tensor([[13.8], [-13.8]]), atol=0.1, rtol=0)


@pytest.mark.parametrize('softmaxed', [False, True])
def test_classes_become_log_probabilities(softmaxed: bool, images: torch.Tensor):
    tail = nn.Softmax(dim=1) if softmaxed else None
    card = card_with(output='multiclass', classes=['a', 'b', 'c'], softmaxed=softmaxed)
    network = ExternalClassifier(seeded(3, tail), card)
    torch.testing.assert_close(
        network(images), seeded(3)(images).log_softmax(dim=1), atol=1e-4, rtol=1e-4
    )
    check_classifier(network, card)


@pytest.mark.parametrize('softmaxed', [False, True])
def test_two_outputs_become_one_logit(softmaxed: bool, images: torch.Tensor):
    tail = nn.Softmax(dim=1) if softmaxed else None
    card = card_with(output='multiclass', softmaxed=softmaxed)
    network = ExternalClassifier(seeded(2, tail), card)
    both = seeded(2)(images)
    torch.testing.assert_close(network(images), both[:, 1:] - both[:, :1], atol=1e-4, rtol=1e-4)
    check_classifier(network, card)


def test_a_regression_is_standardised(images: torch.Tensor):
    card = card_with(output='regression', classes=[], target_mean=50, target_sd=10)
    network = ExternalClassifier(seeded(tail=nn.Flatten(0)), card)  # (B,) instead of (B, 1)
    torch.testing.assert_close(network(images), (seeded()(images) - 50) / 10)
    check_classifier(network, card)


def test_weights_for_an_architecture_of_the_registry(tmp_path: Path, images: torch.Tensor):
    arguments = {'channels': [4, 8]}
    trained = build_classifier('sfcn', SHAPE, **arguments).eval()
    path = tmp_path / 'weights.safetensors'
    save_file(trained.state_dict(), path)
    source = source_of(path)
    assert source.kind == 'registry'
    loaded = load_external(source, card_with(architecture='sfcn', arguments=arguments))
    torch.testing.assert_close(loaded(images), trained(images))
    explicit = ExternalSource('registry', str(path), 'sfcn', arguments)
    torch.testing.assert_close(load_external(explicit, card_with())(images), trained(images))
    with pytest.raises(ModelError, match=r'weights\.safetensors.*"architecture"'):
        load_external(source, card_with())
    with pytest.raises(ModelError, match=r"weights\.safetensors .*'sfcn'"):
        load_external(source, card_with(architecture='sfcn'))


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a trace when it is imported."""
    (tmp_path / 'their_model.py').write_text(
        'import pathlib, torch\n'
        'pathlib.Path(__file__).with_name("imported").touch()\n'
        'class Net(torch.nn.Module):\n'
        '    def __init__(self, gain=1.0):\n'
        '        super().__init__()\n'
        '        self.gain = torch.nn.Parameter(torch.tensor(gain))\n'
        '    def forward(self, x):\n'
        '        return self.gain * x.mean((1, 2, 3, 4))\n'
        'net = Net(2.0)\n'
        'number = 3\n'
        'def count(**arguments):\n'
        '    return len(arguments)\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'their_model', raising=False)
    return tmp_path / 'imported'


def test_code_is_run_only_when_it_is_allowed(user_module: Path, images: torch.Tensor):
    with pytest.raises(UsageError, match='their_model:net .*--allow-code'):
        source_of(None, 'their_model:net')
    with pytest.raises(UsageError, match='their_model:net .*--allow-code'):
        load_external(ExternalSource('module', 'their_model:net'), card_with())
    assert not user_module.exists()
    loaded = load_external(source_of(None, 'their_model:net', True), card_with(), allow_code=True)
    assert user_module.exists()
    torch.testing.assert_close(loaded(images)[:, 0], 2 * images.mean((1, 2, 3, 4)))
    check_classifier(loaded, card_with())


def test_a_class_is_called_with_the_arguments_of_the_card(user_module: Path, images: torch.Tensor):
    source = source_of(None, 'their_model:Net', True)
    loaded = load_external(source, card_with(arguments={'gain': 3.0}), allow_code=True)
    torch.testing.assert_close(loaded(images)[:, 0], 3 * images.mean((1, 2, 3, 4)))
    with pytest.raises(ModelError, match=r'their_model:count .*\bint\b.*torch\.nn\.Module'):
        load_external(ExternalSource('module', 'their_model:count'), card_with(), allow_code=True)
    for wrong in ('their_model:number', 'their_model:nothing', 'no_such_module:net'):
        with pytest.raises(ModelError, match=wrong):
            load_external(ExternalSource('module', wrong), card_with(), allow_code=True)


def test_what_names_no_classifier(tmp_path: Path):
    with pytest.raises(UsageError, match='--classifier .*--classifier-module'):
        source_of(None)
    with pytest.raises(UsageError, match='--classifier .*--classifier-module'):
        source_of('a.pt2', 'a:b', True)
    with pytest.raises(UsageError, match='package.module:attribute'):
        source_of(None, 'their_model.net', True)
    with pytest.raises(ModelError, match=r'none\.pt2'):
        source_of(tmp_path / 'none.pt2')
    (tmp_path / 'model.pth').touch()
    with pytest.raises(ModelError, match='pickle.*torch.export'):
        source_of(tmp_path / 'model.pth')


def test_an_export_for_another_shape_or_one_batch_size(exported: Path, tmp_path: Path):
    with pytest.raises(ModelError, match=r'\(1, 10, 12, 8\).*\(1, 9, 12, 8\)'):
        load_external(source_of(exported), card_with(input_shape=[9, 12, 8]))
    fixed = export(seeded(), tmp_path / 'fixed.pt2', dynamic=False)
    with pytest.raises(ModelError, match=r'\b2\..*dynamic_shapes'):
        load_external(source_of(fixed), card_with())


class _Wrong(nn.Module):
    """A network with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.weight = fault, nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        means = self.weight * image.mean((2, 3, 4))
        if self.fault == 'shape':
            return torch.cat([means, means], dim=1)
        if self.fault == 'crash':
            return means @ torch.ones(5, 1)
        if self.fault == 'random':
            return means + 0.01 * torch.rand_like(means)
        if self.fault == 'batch':
            return means - means.mean()
        if self.fault == 'nan':
            return means / 0 - means / 0
        if self.fault == 'detached':
            return image.detach().mean((2, 3, 4)) + 0 * self.weight
        return 0 * means


@pytest.mark.parametrize(
    ('fault', 'check', 'message'),
    [
        ('shape', Check.SHAPE, r'\(2, 2\).*\(2, 1\)'),
        ('crash', Check.SHAPE, r'\b2 .*\(10, 12, 8\)'),
        ('random', Check.DETERMINISM, None),
        ('batch', Check.BATCH, None),
        ('nan', Check.FINITE, None),
        ('detached', Check.GRADIENT, None),
        ('flat', Check.GRADIENT, 'logit'),
    ],
)
def test_each_check_is_named(fault: str, check: Check, message: str | None):
    network = ExternalClassifier(_Wrong(fault), card_with())
    with pytest.raises(CheckError, match=message) as caught:
        check_classifier(network, card_with())
    assert caught.value.check is check
    # Errors cross the borders of processes.
    assert pickle.loads(pickle.dumps(caught.value)).check is check


def test_batch_statistics_and_dropout_are_noticed():
    active = seeded().train()
    network = ExternalClassifier(active, card_with())
    with pytest.raises(ModelError, match=r'model\.eval\(\)'):
        check_classifier(network, card_with())


@pytest.mark.parametrize(
    ('tail', 'changes', 'message'),
    [
        (None, {'output': 'probability'}, '"logit"'),
        (nn.Softmax(dim=1), {'output': 'multiclass'}, '"softmaxed": true'),
        (None, {'output': 'multiclass', 'softmaxed': True}, '"softmaxed" '),
    ],
)
def test_outputs_of_another_kind_than_the_card_says(tail, changes: dict, message: str):
    card = card_with(**changes)
    inner = nn.Sequential(seeded(card.n_outputs, tail), nn.Flatten())
    if tail is None:
        inner = nn.Sequential(inner, _Times(50.0))
    with pytest.raises(CheckError, match=message) as caught:
        check_classifier(ExternalClassifier(inner, card), card)
    assert caught.value.check is Check.KIND


class _Small(nn.Module):
    """Logits near 0.5 for every image of ordinary brightness, with a skip of the intensity."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 0.5 + 1e-3 * image.mean((2, 3, 4))


@pytest.mark.parametrize(
    ('network', 'changes', 'refused'),
    [
        (_Small(), {}, False),
        (_Small(), {'output': 'probability'}, True),
        (nn.Sequential(_Small(), nn.Sigmoid()), {}, True),
        (nn.Sequential(_Small(), nn.Sigmoid()), {'output': 'probability'}, False),
        # A sigmoid for each class: between 0 and 1, but the sum is not 1.
        (
            nn.Sequential(nn.AdaptiveAvgPool3d((1, 1, 2)), nn.Flatten(), nn.Sigmoid()),
            {'output': 'multiclass'},
            True,
        ),
        (nn.Sequential(_Small(), nn.Sigmoid()), {'output': 'regression', 'classes': []}, False),
    ],
)
def test_probabilities_are_told_from_logits(network: nn.Module, changes: dict, refused: bool):
    """All these outputs lie between 0 and 1 for the two blobs."""
    card = card_with(**changes)
    given = ExternalClassifier(network.eval(), card)
    if not refused:
        check_classifier(given, card)
        return
    with pytest.raises(CheckError) as caught:
        check_classifier(given, card)
    assert caught.value.check is Check.KIND


def test_the_kind_of_output_is_checked_on_scans(images: torch.Tensor):
    """The logits leave 0 to 1 only for brighter images than the blobs."""
    card = card_with(output='probability')
    clamped = nn.Sequential(_Small(), nn.Hardtanh(0.0, 1.0))
    check_scans(ExternalClassifier(clamped, card), card, images)
    with pytest.raises(CheckError) as caught:
        check_scans(ExternalClassifier(_Small(), card), card, 3000 * images)
    assert caught.value.check is Check.KIND
    with pytest.raises(CheckError) as caught:
        check_scans(ExternalClassifier(_Small(), card_with()), card_with(), torch.nan * images)
    assert caught.value.check is Check.FINITE
    ended = ExternalClassifier(nn.Sequential(_Small(), nn.Sigmoid()), card_with())
    with pytest.raises(CheckError) as caught:
        check_scans(ended, card_with(), images)
    assert caught.value.check is Check.KIND


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.factor


@pytest.mark.parametrize('suffix', ['.npz', '.safetensors'])
def test_the_golden_sample(suffix: str, tmp_path: Path, images: torch.Tensor):
    network, path = ExternalClassifier(seeded(), card_with()), tmp_path / f'golden{suffix}'

    def record(shift: float) -> None:
        arrays = {'input': images, 'output': seeded()(images).detach() + shift}
        if suffix == '.npz':
            np.savez(path, **{name: array.numpy() for name, array in arrays.items()})
        else:
            save_file(arrays, path)

    record(0.0)
    check_classifier(network, card_with(), path)
    record(0.01)
    with pytest.raises(CheckError, match=re.escape(str(path))) as caught:
        check_classifier(network, card_with(), path)
    assert caught.value.check is Check.GOLDEN


def test_golden_samples_that_cannot_be_used(tmp_path: Path, images: torch.Tensor):
    network = ExternalClassifier(seeded(), card_with())
    with pytest.raises(ModelError, match=r'none\.npz'):
        check_classifier(network, card_with(), tmp_path / 'none.npz')
    np.savez(tmp_path / 'objects.npz', input=np.array([{}], dtype=object), output=np.zeros(1))
    with pytest.raises(ModelError, match=r'objects\.npz'):
        check_classifier(network, card_with(), tmp_path / 'objects.npz')
    np.savez(tmp_path / 'half.npz', input=images.numpy())
    with pytest.raises(ModelError, match=r"half\.npz .*\['input'\].*\"output\""):
        check_classifier(network, card_with(), tmp_path / 'half.npz')
    np.savez(tmp_path / 'flat.npz', input=np.zeros(4), output=np.zeros(1))
    with pytest.raises(CheckError, match=r'flat\.npz') as caught:
        check_classifier(network, card_with(), tmp_path / 'flat.npz')
    assert caught.value.check is Check.GOLDEN
