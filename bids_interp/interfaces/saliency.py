"""Saliency interface."""

from __future__ import annotations

from typing import Any

from nipype.interfaces.base import File, TraitedSpec, traits

from bids_interp.bids.explain_files import saliency_files
from bids_interp.bids.write.atomic import no_map, write_json
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.interfaces.model_inputs import ModelInterface, NetworkInputSpec


class _SaliencyInputSpec(NetworkInputSpec):
    methods = traits.List(traits.Str, mandatory=True, minlen=1, desc='saliency methods')


class _SaliencyOutputSpec(TraitedSpec):
    saliency = traits.List(
        File(exists=True),
        desc='maps in the order of the methods; an empty file for a skipped method',
    )
    saliency_facts = File(exists=True, desc='JSON: an object for each method')
    saliency_methods = File(
        exists=True, desc='JSON: applied methods, and skipped methods with reasons'
    )


class Saliency(ModelInterface):
    """Compute saliency maps of the classifiers that were not trained with the subject."""

    input_spec = _SaliencyInputSpec
    output_spec = _SaliencyOutputSpec

    def _run_interface(self, runtime):
        from bids_interp.saliency.maps import fold_mean_saliency, method_title

        bundle = self.open_model()
        image, folds, device = self.network_input()
        methods = list(self.inputs.methods)
        maps, skipped = fold_mean_saliency(
            bundle, image, folds, methods, seed=self.inputs.random_seed, device=device
        )
        paths: list[str] = []
        facts: dict[str, dict[str, Any]] = {}
        for file in saliency_files(methods):
            method = file.label
            paths.append(self.path(runtime, f'{file.stem}.nii.gz'))
            if method in skipped:
                no_map(paths[-1])
                continue
            write_nifti(paths[-1], maps[method].map, maps[method].grid.affine, template=True)
            facts[file.label] = saliency_sidecar(maps[method])
        self._results['saliency'] = paths
        for name, content in (
            ('saliency_facts', facts),
            (
                'saliency_methods',
                {
                    'Methods': [method for method in methods if method in maps],
                    'Skipped': [
                        {'Method': method, 'Title': method_title(method), 'Reason': reason}
                        for method, reason in skipped.items()
                    ],
                },
            ),
        ):
            self._results[name] = self.path(runtime, f'{name}.json')
            write_json(self._results[name], content)
        return runtime


def saliency_sidecar(saliency: Any) -> dict[str, Any]:
    """Return the sidecar fields of a saliency map.

    Parameters
    ----------
    saliency : bids_interp.saliency.maps.SaliencyMap
        Mean over the folds.

    Returns
    -------
    dict
        Fields of the sidecar; ``CompletenessError`` only for some methods.
    """
    from captum import __version__

    content = {
        'SaliencyMethod': saliency.method,
        'Title': saliency.title,
        'Kind': saliency.kind,
        'Sign': saliency.sign,
        'Units': saliency.units,
        'Baseline': saliency.baseline or 'none',
        'Software': f'captum {__version__}',
    }
    if saliency.completeness_error is not None:
        content['CompletenessError'] = saliency.completeness_error
        content['CompletenessErrorMeaning'] = (
            'Sum of the map minus the difference of the scores of image and baseline, in class '
            'gaps; 0 if the method is complete for this network.'
        )
    return content
