"""Node of the sanity checks of a training."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.base import File, TraitedSpec

from bids_interp.interfaces.train import TrainFold, _FoldInputSpec


class _SanityInputSpec(_FoldInputSpec):
    result = File(exists=True, mandatory=True, desc='result of TrainFold')


class _SanityOutputSpec(TraitedSpec):
    sanity = File(exists=True, desc='numbers and maps of the checks')


class SanityFold(TrainFold):
    """Compare the map of a fold with maps of classifiers that have learned nothing."""

    input_spec = _SanityInputSpec
    output_spec = _SanityOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.training.cohort.storage import load_result, save_sanity
        from bids_interp.training.sanity import check_fold

        result = load_result(Path(self.inputs.result))
        path = Path(runtime.cwd) / 'sanity.safetensors'
        save_sanity(path, check_fold(**self.fold_arguments(), result=result))
        self._results['sanity'] = str(path)
        return runtime
