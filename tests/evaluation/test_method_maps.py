from __future__ import annotations

import numpy as np

from bids_interp.evaluation.method_maps import FoldMaps, join_folds


def part(fold: int, images: list[int], **values: float) -> FoldMaps:
    maps = {name: np.full((len(images), 3), value, np.float32) for name, value in values.items()}
    return FoldMaps(fold, np.array(images), maps, {'ours': 'log-jacobian'}, {'deeplift': 'no rule'})


def test_maps_come_back_from_their_file(tmp_path):
    first = part(1, [4, 7], ours=0.25, gradient=2.0)
    first.save(tmp_path / 'maps.safetensors')
    again = FoldMaps.load(tmp_path / 'maps.safetensors')
    assert (again.fold, again.kinds['ours']) == (1, 'log-jacobian')
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
    assert ours.kind == 'log-jacobian'
    assert ours.signed
    assert ours.images.tolist() == [0, 1, 5]
    assert ours.folds.tolist() == [0, 0, 1]
    assert ours.values[:, 0].tolist() == [1.0, 1.0, 2.0]
