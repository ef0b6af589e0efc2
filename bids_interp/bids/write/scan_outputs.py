"""Scan outputs: the plan of all files to be written for one T1w image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bids_interp.bids.explain_files import (
    FACTS,
    QUANTITIES,
    SALIENCY,
    VELOCITY,
    field_files,
    realised_field,
    realised_files,
    saliency_files,
)
from bids_interp.bids.names import output_name
from bids_interp.bids.write.provenance import bids_uri
from bids_interp.bids.write.sidecars import (
    RESAMPLED_CONVENTION,
    SOURCE_KINDS,
    build_sidecar,
    is_standard_template,
)
from bids_interp.constants import DIRECTIONS
from bids_interp.settings import NATIVE_SPACE, TEMPLATE_SPACE

#: Key of `runtime_fields` for a JSON file whose keys are all copied into the sidecar.
ALL_KEYS = '*'
#: Key of `runtime_fields` for a JSON file with one object per image, by label.
KEYS_OF_FILE = '#'
#: Run-time fields of all files that depend on the model.
MEMBERSHIP = ((ALL_KEYS, 'membership'),)


@dataclass(frozen=True)
class PlannedOutput:
    """File to be written.

    Parameters
    ----------
    name : str
        Path relative to the output directory.
    metadata : dict
        Fields of the sidecar that are available before the run.
    template : bool
        Whether the file is in template space.
    dtype : str, optional
        Type on disk that a NIfTI image must have.
    runtime_fields : list of (str, str)
        Fields of the sidecar that are computed in the run: key (or :data:`ALL_KEYS`, or
        :data:`KEYS_OF_FILE`) and name of the sink's input that provides it.
    stem : str, optional
        Required name of the source file, without extension
        (:attr:`bids_interp.bids.explain_files.ExplainFile.stem`).
    label : str, optional
        Key of the file's facts in a JSON file about several images.
    optional : bool
        Whether the file may be absent; an empty file then stands for it
        (:func:`bids_interp.bids.write.atomic.no_map`).
    """

    name: str
    metadata: dict[str, Any] = field(default_factory=dict)
    template: bool = False
    dtype: str | None = None
    runtime_fields: tuple[tuple[str, str], ...] = ()
    optional: bool = False
    stem: str | None = None
    label: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)


#: Outputs of one image by the input of the sink that receives their files.
OutputPlan = dict[str, list[PlannedOutput]]


def sink_inputs(plan: OutputPlan) -> list[str]:
    """Return the names of the inputs of a sink: its files and the run-time fields."""
    fields = {name for outputs in plan.values() for o in outputs for _, name in o.runtime_fields}
    return [*plan, *sorted(fields)]


class AtlasIdentity(Protocol):
    """Identity of an atlas, as recorded in names and sidecars."""

    @property
    def path(self) -> Path:
        """Return the label image."""
        ...

    @property
    def space(self) -> str:
        """Return its template, or ``T1w``."""
        ...

    @property
    def label(self) -> str:
        """Return the label in file names."""
        ...


@dataclass(frozen=True)
class ImageOutputs:
    """Properties shared by all outputs of one T1w image.

    Parameters
    ----------
    source : pathlib.Path
        T1w image in the input dataset.
    out_dir : pathlib.Path
        Root of the output dataset.
    roots : mapping
        Root of every input dataset by link name; ``raw`` is the BIDS directory.
    template : str
        Name of the model's template.
    model_resolution : str
        Description of the grid of the model.
    common : dict
        Fields from :func:`bids_interp.bids.write.provenance.common_fields`.
    derivative_t1w, derivative_mask : pathlib.Path, optional
        Precomputed files that replace the own preprocessing.
    prepared_with : dict, optional
        Result of :func:`bids_interp.bids.read.prepared.prepared_with`.
    field_kind : {'velocity', 'displacement'}
        Kind of field that the simulators of the model give.
    """

    source: Path
    out_dir: Path
    roots: Mapping[str, Path]
    template: str
    model_resolution: str
    common: dict[str, Any]
    derivative_t1w: Path | None = None
    derivative_mask: Path | None = None
    prepared_with: dict[str, Any] | None = None
    field_kind: str = 'velocity'

    def uri(self, path: Path) -> str:
        """Return the BIDS URI of an input file."""
        return bids_uri(path, self.out_dir, self.roots)

    def name(self, kind: str, **entities: Any) -> str:
        """Return the path of an output, relative to the output directory."""
        return output_name(self.source, kind, **entities).as_posix()

    def source_uri(self, key: str) -> str:
        """Return the BIDS URI of one source; see :data:`SOURCE_KINDS`."""
        if key == 't1w':
            return self.uri(self.derivative_t1w or self.source)
        if key == 'velocity':
            raise ValueError('A velocity needs a direction; use field_uri.')
        if key == 'to_template':
            return 'bids::' + self.name('transform', **{'from': NATIVE_SPACE, 'to': self.template})
        spaced = key in ('template_brain', 'template_mask', 'model_input')
        return 'bids::' + self.name(key, **({'space': self.template} if spaced else {}))

    def field_uri(self, direction: str) -> str:
        """Return the BIDS URI of the simulator's field."""
        return 'bids::' + self.name(self.field_kind, space=self.template, desc=direction)

    def sources(self, kind: str) -> list[str]:
        """Return the BIDS URIs of the sources of a kind of file."""
        uris = []
        for key in SOURCE_KINDS[kind]:
            if key == 'velocity':
                uris += [self.field_uri(direction) for direction in DIRECTIONS]
            else:
                uris.append(self.source_uri(key))
        return uris

    def spatial_reference(self) -> str | None:
        """Return the spatial reference; None for a template that BIDS defines."""
        return None if is_standard_template(self.template) else self.source_uri('template_brain')


def plan_anatomical(outputs: ImageOutputs) -> OutputPlan:
    """Return the plan of the anatomical outputs, by input of the sink."""
    common, template = outputs.common, outputs.template
    mask_sources = outputs.sources('mask')
    if outputs.derivative_mask is not None:
        mask_sources = [outputs.uri(outputs.derivative_mask)]
    plan: OutputPlan = {
        't1w_preproc': [
            PlannedOutput(
                outputs.name('preproc'),
                build_sidecar(
                    'preproc',
                    common,
                    outputs.sources('preproc'),
                    PreparedWith=outputs.prepared_with,
                ),
                runtime_fields=(
                    ('SkullStripped', 'skull_stripped_input'),
                    ('Conformation', 'conform_report'),
                ),
            )
        ],
        'brain_mask': [
            PlannedOutput(
                outputs.name('mask'),
                build_sidecar(
                    'mask', common, mask_sources, SpatialReference=outputs.source_uri('preproc')
                ),
                dtype='uint8',
            )
        ],
        'template_brain': [
            PlannedOutput(
                outputs.name('template_brain', space=template),
                build_sidecar(
                    'template_brain',
                    common,
                    outputs.sources('template_brain'),
                    SpatialReference=outputs.spatial_reference(),
                ),
                template=True,
            )
        ],
        'template_mask': [
            PlannedOutput(
                outputs.name('template_mask', space=template),
                build_sidecar(
                    'template_mask',
                    common,
                    outputs.sources('template_mask'),
                    SpatialReference=outputs.spatial_reference(),
                ),
                template=True,
                dtype='uint8',
            )
        ],
    }
    for field_name, ends in (
        ('xfm_forward_itk', (NATIVE_SPACE, template)),
        ('xfm_inverse_itk', (template, NATIVE_SPACE)),
    ):
        name = outputs.name('transform', **{'from': ends[0], 'to': ends[1]})
        metadata = build_sidecar(
            'transform', common, outputs.sources('transform'), FromSpace=ends[0], ToSpace=ends[1]
        )
        runtime_fields = (('Registration', 'native_to_template'),)
        plan[field_name] = [PlannedOutput(name, metadata, runtime_fields=runtime_fields)]
    return plan


def plan_explain(
    outputs: ImageOutputs,
    doses: Sequence[float],
    output_spaces: Sequence[str],
    saliency: Sequence[str] = (),
    remeasure: bool = False,
    atlas: AtlasIdentity | None = None,
) -> OutputPlan:
    """Return the plan of the explain outputs, by input of the sink.

    Parameters
    ----------
    outputs : ImageOutputs
        Properties shared by the outputs.
    doses : sequence of float
        Doses of the simulated images.
    output_spaces : sequence of str
        ``T1w``, ``template`` (or the name of the template), and names of other templates.
    saliency : sequence of str
        Saliency methods; none if empty.
    remeasure : bool
        Whether simulated images are measured again.
    atlas : AtlasIdentity, optional
        Atlas whose regions are measured.

    Returns
    -------
    dict
        Outputs by input of the sink, in the order of its files: both directions, each with the
        doses as given.
    """
    common, template = outputs.common, outputs.template
    plan: OutputPlan = {
        'anatomy': [
            PlannedOutput(
                outputs.name('anatomy', space=template),
                build_sidecar(
                    'anatomy',
                    common,
                    outputs.sources('anatomy'),
                    SpatialReference=outputs.spatial_reference(),
                ),
                template=True,
                optional=True,
            )
        ],
        'model_input': [
            PlannedOutput(
                outputs.name('model_input', space=template),
                build_sidecar(
                    'model_input',
                    common,
                    outputs.sources('model_input'),
                    Resolution=outputs.model_resolution,
                    SpatialReference=outputs.spatial_reference(),
                ),
                template=True,
            )
        ],
        VELOCITY: _plan_fields(outputs),
    }
    facts = (('Remeasured', 'remeasured_facts'),) if remeasure else ()
    tables = ('dose_response', 'counterfactual', *(('remeasured',) if remeasure else ()))
    for kind in ('prediction', *tables):
        runtime_fields = facts if kind == 'prediction' else MEMBERSHIP
        named = atlas.label if atlas is not None and kind == 'prediction' else None
        metadata = build_sidecar(kind, common, outputs.sources(kind), Atlas=named)
        plan[kind] = [PlannedOutput(outputs.name(kind), metadata, runtime_fields=runtime_fields)]
    for space, in_template in (('native', False), ('template', True)):
        if wants_space(output_spaces, space, template):
            plan |= _plan_realised(outputs, doses, space, in_template)
    for space in other_templates(output_spaces, template):
        plan |= _plan_resampled(outputs, doses, space)
    if atlas is not None:
        plan['regions'] = [_plan_regions(outputs, atlas)]
    return plan | _plan_saliency(outputs, saliency)


def _plan_fields(outputs: ImageOutputs) -> list[PlannedOutput]:
    """Return the planned fields of the simulators."""
    return [
        PlannedOutput(
            outputs.name(outputs.field_kind, space=outputs.template, desc=file.direction),
            build_sidecar(
                outputs.field_kind,
                outputs.common,
                outputs.sources('velocity'),
                direction=file.direction,
                Resolution=outputs.model_resolution,
                SpatialReference=outputs.spatial_reference(),
            ),
            template=True,
            runtime_fields=(*MEMBERSHIP, (KEYS_OF_FILE, 'velocity_facts')),
            stem=file.stem,
            label=file.label,
        )
        for file in field_files()
    ]


def _plan_saliency(outputs: ImageOutputs, methods: Sequence[str]) -> OutputPlan:
    """Return the plan of the saliency maps, which are optional, and of their summary."""
    if not methods:
        return {}
    maps = [
        PlannedOutput(
            outputs.name('saliency', space=outputs.template, desc=file.label),
            build_sidecar(
                'saliency',
                outputs.common,
                outputs.sources('saliency'),
                Resolution=outputs.model_resolution,
                SpatialReference=outputs.spatial_reference(),
            ),
            template=True,
            runtime_fields=(*MEMBERSHIP, (KEYS_OF_FILE, 'saliency_facts')),
            optional=True,
            stem=file.stem,
            label=file.label,
        )
        for file in saliency_files(methods)
    ]
    summary = PlannedOutput(
        outputs.name('saliency_methods'),
        build_sidecar('saliency_methods', outputs.common, outputs.sources('saliency_methods')),
        runtime_fields=MEMBERSHIP,
    )
    return {SALIENCY: maps, 'saliency_methods': [summary]}


def wants_space(output_spaces: Sequence[str], space: str, template: str) -> bool:
    """Return whether maps are requested in a space, ``native`` or ``template``.

    Examples
    --------
    >>> wants_space(('T1w',), 'native', 'MNI'), wants_space(('MNI',), 'template', 'MNI')
    (True, True)
    """
    if space == 'native':
        return NATIVE_SPACE in output_spaces
    return TEMPLATE_SPACE in output_spaces or template in output_spaces


def other_templates(output_spaces: Sequence[str], template: str) -> list[str]:
    """Return the requested templates other than that of the model.

    Examples
    --------
    >>> other_templates(('T1w', 'template', 'MNI', 'Colin'), 'MNI')
    ['Colin']
    """
    return [s for s in output_spaces if s not in (NATIVE_SPACE, TEMPLATE_SPACE, template)]


def _plan_regions(outputs: ImageOutputs, atlas: AtlasIdentity) -> PlannedOutput:
    """Return the planned table of the regions of an atlas."""
    sources = outputs.sources('regions')
    if atlas.space == NATIVE_SPACE:
        sources.append(outputs.uri(atlas.path))
    facts = {'File': atlas.path.name, 'Space': atlas.space}
    return PlannedOutput(
        outputs.name('regions', segmentation=atlas.label),
        build_sidecar('regions', outputs.common, sources, Atlas=facts),
        runtime_fields=MEMBERSHIP,
    )


def _plan_resampled(outputs: ImageOutputs, doses: Sequence[float], space: str) -> OutputPlan:
    """Return the planned brain, mask, images and maps in another template."""
    spaced = {'space': space, 'resolution': '1'}
    reference = None
    if not is_standard_template(space):
        reference = 'bids::' + outputs.name('template_brain', **spaced)
    fields: dict[str, Any] = {
        'SourceSpace': outputs.template,
        'Convention': RESAMPLED_CONVENTION,
        'Resolution': 'Isotropic voxels of 1 mm.',
        'SpatialReference': reference,
    }
    plan: OutputPlan = {}
    for kind, dtype in (('template_brain', None), ('template_mask', 'uint8')):
        source = outputs.source_uri(kind)
        plan[realised_field(kind, space)] = [
            PlannedOutput(
                outputs.name(kind, **spaced),
                build_sidecar(kind, outputs.common, [source], **fields),
                template=True,
                dtype=dtype,
            )
        ]
    sources = ('template_brain', 'template_mask')
    return plan | _plan_simulations(outputs, doses, space, spaced, sources, 'template', fields)


def _plan_realised(
    outputs: ImageOutputs, doses: Sequence[float], space: str, in_template: bool
) -> OutputPlan:
    spaced = {'space': outputs.template, 'resolution': '1'} if in_template else {}
    own_sources = (
        ('template_brain', 'template_mask') if in_template else ('preproc', 'mask', 'to_template')
    )
    fields = {
        'Resolution': 'Isotropic voxels of 1 mm.' if in_template else None,
        'SpatialReference': outputs.spatial_reference() if in_template else None,
    }
    return _plan_simulations(outputs, doses, space, spaced, own_sources, space, fields)


def _plan_simulations(
    outputs: ImageOutputs,
    doses: Sequence[float],
    space: str,
    spaced: Mapping[str, str],
    own_sources: Sequence[str],
    facts: str,
    fields: Mapping[str, Any],
) -> OutputPlan:
    """Return the planned images and maps in a space.

    Parameters
    ----------
    outputs, doses
        As in :func:`plan_explain`.
    space : str
        Space of the fields of the explain workflow.
    spaced : mapping
        Entities of the space in file names; empty in native space.
    own_sources : sequence of str
        Kinds of the files that they are made of, besides the field.
    facts : str
        Space whose facts go into the sidecars.
    fields : mapping
        Further fields of the sidecars.
    """
    plan: OutputPlan = {}
    for kind in QUANTITIES:
        plan[realised_field(kind, space)] = [
            PlannedOutput(
                outputs.name(kind, desc=file.label, **spaced),
                build_sidecar(
                    kind,
                    outputs.common,
                    [
                        *(outputs.source_uri(key) for key in own_sources),
                        outputs.field_uri(file.direction),
                    ],
                    direction=file.direction,
                    dose=file.dose,
                    **fields,
                ),
                template=bool(spaced),
                runtime_fields=(*MEMBERSHIP, (KEYS_OF_FILE, FACTS[facts])),
                stem=file.stem,
                label=file.label,
            )
            for file in realised_files(kind, space, doses)
        ]
    return plan
