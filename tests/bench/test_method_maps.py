from __future__ import annotations

import numpy as np

from bids_interp.bench.method_maps import FoldMaps, join_folds


def part(fold: int, images: list[int], explained: str = 'ours', **values: float) -> FoldMaps:
    maps = {name: np.full((len(images), 3), value, np.float32) for name, value in values.items()}
    named = {'ours': 'ours', 'gradient': explained}
    return FoldMaps(
        fold, np.array(images), maps, {'ours': 'log-jacobian'}, named, {'deeplift': 'no rule'}
    )


def test_maps_come_back_from_their_file(tmp_path):
    first = part(1, [4, 7], ours=0.25, gradient=2.0)
    first.refits['ours'] = np.arange(6, dtype=np.float32).reshape(2, 3)
    first.save(tmp_path / 'maps.safetensors')
    again = FoldMaps.load(tmp_path / 'maps.safetensors')
    assert (again.fold, again.kinds['ours']) == (1, 'log-jacobian')
    assert again.classifiers == first.classifiers
    assert again.refits['ours'].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert again.skipped == {'deeplift': 'no rule'}
    assert again.images.tolist() == [4, 7]
    assert {name: values.tolist() for name, values in again.values.items()} == {
        'ours': [[0.25] * 3] * 2,
        'gradient': [[2.0] * 3] * 2,
    }


def test_folds_are_put_together_by_method():
    joined = join_folds([part(0, [0, 1], ours=1.0), part(1, [5], ours=2.0), part(0, [0, 1], tbm=3)])
    # Morphometry is missing in the second fold: it would be scored on fewer brains.
    assert list(joined) == ['ours']
    ours = joined['ours']
    assert (ours.kind, ours.classifier) == ('log-jacobian', 'ours')
    assert ours.signed
    assert ours.refits == {}
    assert ours.images.tolist() == [0, 1, 5]
    assert ours.folds.tolist() == [0, 0, 1]
    assert ours.values[:, 0].tolist() == [1.0, 1.0, 2.0]


def test_refits_are_kept_by_fold():
    parts = [part(number, [number], tbm=1.0) for number in (2, 0)]
    for number, one in zip((2, 0), parts, strict=True):
        one.refits['tbm'] = np.full((4, 3), number, np.float32)
    refits = join_folds(parts)['tbm'].refits
    assert {fold: maps.mean() for fold, maps in refits.items()} == {0: 0.0, 2: 2.0}


def test_the_maps_of_a_method_explain_one_network():
    same = [part(0, [0], 'sfcn', gradient=1.0), part(1, [1], 'sfcn', gradient=2.0)]
    assert join_folds(same)['gradient'].classifier == 'sfcn'
    mixed = [part(0, [0], 'sfcn', gradient=1.0), part(1, [1], 'ours', gradient=2.0, ours=1.0)]
    assert join_folds(mixed) == {}
    assert join_folds([part(0, [0], tbm=1.0)])['tbm'].classifier == ''
