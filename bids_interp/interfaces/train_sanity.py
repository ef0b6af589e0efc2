"""Node of the sanity checks of a training."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.base import File, TraitedSpec

from bids_interp.interfaces.train import TrainFold, _FoldInputSpec, _log_line


class _SanityInputSpec(_FoldInputSpec):
    result = File(exists=True, mandatory=True, desc='result of TrainFold')


class _SanityOutputSpec(TraitedSpec):
    sanity = File(exists=True, desc='numbers and maps of the checks')


class SanityFold(TrainFold):
    """Compare the map of a fold with maps of classifiers that have learned nothing."""

    input_spec = _SanityInputSpec
    output_spec = _SanityOutputSpec

    def _run_interface(self, runtime):
        import torch

        from bids_interp.device import resolve_device
        from bids_interp.training.cohort.storage import (
            load_cohort,
            load_folds,
            load_result,
            save_sanity,
        )
        from bids_interp.training.fold import FoldWorkspace
        from bids_interp.training.recipe import make_recipe
        from bids_interp.training.sanity import check_fold

        inputs = self.inputs
        torch.set_num_threads(inputs.num_threads)
        found = check_fold(
            load_cohort(Path(inputs.cohort)),
            load_folds(Path(inputs.folds))[inputs.index],
            inputs.index,
            make_recipe(**inputs.recipe),
            load_result(Path(inputs.result)),
            FoldWorkspace(
                Path(inputs.directory) / f'fold-{inputs.index}',
                resolve_device(inputs.device),
                inputs.n_devices,
                _log_line,
            ),
            seed=inputs.random_seed,
            external=self._external(),
        )
        path = Path(runtime.cwd) / 'sanity.safetensors'
        save_sanity(path, found)
        self._results['sanity'] = str(path)
        return runtime
