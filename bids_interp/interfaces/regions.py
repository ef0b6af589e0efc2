"""Interface that measures the regions of an atlas in the simulations of one scan."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from bids_interp.bids.explain_files import realised_files, stem_of
from bids_interp.bids.write.atomic import write_tsv
from bids_interp.interfaces.model_inputs import load_matrix

COLUMNS = (
    'direction',
    'dose',
    'index',
    'region',
    'side',
    'volume_mm3',
    'simulated_mm3',
    'logj',
    'pct',
)


class _MeasureRegionsInputSpec(BaseInterfaceInputSpec):
    log_jacobian = InputMultiObject(File(exists=True), mandatory=True, desc='native maps')
    doses = traits.List(traits.Float, mandatory=True, desc='doses of the maps')
    mask = File(exists=True, mandatory=True, desc='native brain mask, 0 and 1')
    to_template = File(exists=True, mandatory=True, desc='JSON: 4 x 4 to the template, RAS+ mm')
    template = traits.Str(mandatory=True, desc='template of the model')
    atlas = File(exists=True, mandatory=True, desc='label image')
    atlas_space = traits.Str(mandatory=True, desc='template of the label image, or T1w')
    names = traits.Dict(traits.Int, traits.Str, usedefault=True, desc='name of each label')
    offline = traits.Bool(True, usedefault=True, nohash=True, desc='do not download templates')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='threads of ANTs')


class _MeasureRegionsOutputSpec(TraitedSpec):
    regions = File(exists=True, desc='TSV: a row for each direction, dose and region')


class MeasureRegions(SimpleInterface):
    """Measure the volume of each region in the scan and in its simulations."""

    input_spec = _MeasureRegionsInputSpec
    output_spec = _MeasureRegionsOutputSpec

    def _run_interface(self, runtime):
        import nibabel as nib

        from bids_interp.anatomical.spaces.atlas import Atlas
        from bids_interp.anatomical.spaces.region_volumes import label_scan, region_volumes

        inputs = self.inputs
        atlas = Atlas(Path(inputs.atlas), inputs.atlas_space, dict(inputs.names), '')
        voxels = label_scan(
            atlas,
            nib.load(inputs.mask),
            load_matrix(inputs.to_template),
            inputs.template,
            offline=inputs.offline,
            threads=inputs.num_threads,
        )
        paths = {stem_of(path): path for path in inputs.log_jacobian}
        rows = []
        for file in realised_files('logjacobian', 'native', inputs.doses):
            simulation = {'direction': file.direction, 'dose': file.dose}
            found = region_volumes(voxels, nib.load(paths[file.stem]), atlas)
            rows += [{**simulation, **asdict(region)} for region in found]
        table = write_tsv(Path(runtime.cwd) / 'regions.tsv', rows, COLUMNS)
        self._results['regions'] = str(table)
        return runtime
