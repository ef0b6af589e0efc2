"""Agreement of folds against null models."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bids_interp.errors import ModelError
from bids_interp.group.analysis import training_folds
from bids_interp.group.statistics import null
from helpers import cohorts


def fake_bundle(maps: np.ndarray, digest: str, grid) -> SimpleNamespace:
    mask = np.ones(grid.shape, bool)
    return SimpleNamespace(
        version_hash=digest, grid=grid, brain_mask=mask, maps=maps, path=Path(digest)
    )


def test_a_pattern_that_the_folds_share_is_beyond_chance(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    grid = cohorts.grid()
    size = int(np.prod(grid.shape))
    shared = 0.3 * (np.arange(size) < 200)
    bundles = {
        f'null{n}': fake_bundle(rng.normal(0, 0.1, (4, size)), f'null{n}', grid) for n in range(19)
    }
    bundles['true'] = fake_bundle(shared + rng.normal(0, 0.01, (4, size)), 'true', grid)
    monkeypatch.setattr(null, 'load_bundle', lambda path, contrast: bundles[str(path)])
    monkeypatch.setattr(null, 'fold_maps', lambda bundle: bundle.maps)
    names = [f'null{n}' for n in range(19)]
    facts, volume, _ = null.compare_with_null_models(Path('true'), names)
    assert facts['p'] == pytest.approx(0.05)
    assert (volume.ravel()[:200] <= 0.05).mean() > 0.9
    assert (volume.ravel()[200:] <= 0.05).mean() < 0.01
    chance, _, _ = null.compare_with_null_models(Path('null0'), names[1:])
    assert chance['p'] > 0.05
    assert not chance['enough']
    assert chance['ErrorControl'].startswith('weak')
    with pytest.raises(ModelError, match='--null-models true '):
        null.compare_with_null_models(Path('true'), ['true'])


def test_fold_maps_of_a_bundle(tiny_bundle) -> None:
    maps = null.fold_maps(tiny_bundle)
    assert maps.shape == (2, int(tiny_bundle.brain_mask.sum()))
    assert np.isfinite(maps).all()
    assert np.abs(maps[0] - maps[1]).max() > 0.01


def test_maps_of_folds_are_those_of_this_very_model(tmp_path) -> None:
    import hashlib

    (tmp_path / 'models' / 'm').mkdir(parents=True)
    (tmp_path / 'training' / 'm').mkdir(parents=True)
    config = tmp_path / 'models' / 'm' / 'config.json'
    config.write_text('{}')
    digest = hashlib.sha256(b'{}').hexdigest()[:12]
    assert training_folds(tmp_path, ('m', digest)) == tmp_path / 'training' / 'm'
    assert training_folds(tmp_path, ('m', 'another')) is None
