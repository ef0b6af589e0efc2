"""Everything that is written for one T1w image: known before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bids_interp.bids.explain_files import (
    FACTS,
    REALISED,
    SALIENCY,
    VELOCITY,
    field_files,
    realised_files,
    saliency_files,
)
from bids_interp.bids.names import output_name
from bids_interp.bids.write.provenance import bids_uri
from bids_interp.bids.write.sidecars import SOURCE_KINDS, is_standard_template, sidecar
from bids_interp.constants import DIRECTIONS
from bids_interp.settings import NATIVE_SPACE, TEMPLATE_SPACE

#: Key of `learned` for a JSON file all of whose keys go into the sidecar.
ALL_KEYS = '*'
#: Key of `learned` for a JSON file that has, by label, an object for each image.
KEYS_OF_FILE = '#'


@dataclass(frozen=True)
class PlannedOutput:
    """One file to be written.

    Parameters
    ----------
    name : str
        Path relative to the output directory.
    metadata : dict
        What is known beforehand of its sidecar.
    template : bool
        Whether its world is the template's.
    dtype : str, optional
        Type on disk that a NIfTI image must have.
    learned : list of (str, str)
        What is learned on the way: key of the sidecar (or :data:`ALL_KEYS`, or
        :data:`KEYS_OF_FILE`) and the name of the input of the sink that has it.
    stem : str, optional
        Name, without extension, that the file must have where it comes from
        (:attr:`bids_interp.bids.explain_files.ExplainFile.stem`).
    label : str, optional
        Key of its facts in a JSON file about several images.
    optional : bool
        Whether it may turn out that there is no such file; a file of no bytes is then in its place
        (:func:`bids_interp.bids.write.atomic.no_map`).
    """

    name: str
    metadata: dict[str, Any] = field(default_factory=dict)
    template: bool = False
    dtype: str | None = None
    learned: tuple[tuple[str, str], ...] = ()
    optional: bool = False
    stem: str | None = None
    label: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


Plan = dict[str, list[PlannedOutput]]


@dataclass(frozen=True)
class OutputContext:
    """What all outputs of one T1w image have in common.

    Parameters
    ----------
    source : pathlib.Path
        The T1w image in the input dataset.
    out_dir : pathlib.Path
        Root of the output dataset.
    roots : mapping
        Link name -> root of every input dataset; ``raw`` is the BIDS directory.
    template : str
        Name of the model's template.
    model_resolution : str
        The grid of the model in words.
    common : dict
        Of :func:`bids_interp.bids.write.provenance.common_fields`.
    derivative_t1w, derivative_mask : pathlib.Path, optional
        Precomputed files that were used in place of own ones.
    prepared_with : dict, optional
        Of :func:`bids_interp.bids.read.prepared.prepared_with`.
    field_kind : {'velocity', 'displacement'}
        What the simulators of the model put out.
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
        """BIDS URI of an input file."""
        return bids_uri(path, self.out_dir, self.roots)

    def name(self, kind: str, **entities: Any) -> str:
        """Name of an output, relative to the output directory."""
        return output_name(self.source, kind, **entities).as_posix()

    def own(self, key: str) -> str:
        """BIDS URI of what others are made of; see :data:`SOURCE_KINDS`."""
        if key == 't1w':
            return self.uri(self.derivative_t1w or self.source)
        if key == 'velocity':
            raise ValueError('There are two fields; name the direction.')
        if key == 'to_template':
            return 'bids::' + self.name('transform', **{'from': NATIVE_SPACE, 'to': self.template})
        spaced = key in ('template_brain', 'model_input')
        return 'bids::' + self.name(key, **({'space': self.template} if spaced else {}))

    def velocity(self, direction: str) -> str:
        """BIDS URI of the simulator's field."""
        return 'bids::' + self.name(self.field_kind, space=self.template, desc=direction)

    def sources(self, kind: str) -> list[str]:
        """BIDS URIs of what a kind of file is made of."""
        uris = []
        for key in SOURCE_KINDS[kind]:
            if key == 'velocity':
                uris += [self.velocity(direction) for direction in DIRECTIONS]
            else:
                uris.append(self.own(key))
        return uris

    def reference(self) -> str | None:
        """What lies in the template's space, where BIDS does not know the template."""
        return None if is_standard_template(self.template) else self.own('template_brain')


def plan_anatomical(context: OutputContext) -> Plan:
    """List what the anatomical workflow writes, by the input of the sink that brings it."""
    common, template = context.common, context.template
    mask_sources = context.sources('mask')
    if context.derivative_mask is not None:
        mask_sources = [context.uri(context.derivative_mask)]
    plan: Plan = {
        't1w_preproc': [
            PlannedOutput(
                context.name('preproc'),
                sidecar(
                    'preproc',
                    common,
                    context.sources('preproc'),
                    PreparedWith=context.prepared_with,
                ),
                learned=(
                    ('SkullStripped', 'skull_stripped_input'),
                    ('Conformation', 'conform_report'),
                ),
            )
        ],
        'brain_mask': [
            PlannedOutput(
                context.name('mask'),
                sidecar('mask', common, mask_sources, SpatialReference=context.own('preproc')),
                dtype='uint8',
            )
        ],
        'template_brain': [
            PlannedOutput(
                context.name('template_brain', space=template),
                sidecar(
                    'template_brain',
                    common,
                    context.sources('template_brain'),
                    SpatialReference=context.reference(),
                ),
                template=True,
            )
        ],
    }
    for field_name, ends in (
        ('xfm_forward_itk', (NATIVE_SPACE, template)),
        ('xfm_inverse_itk', (template, NATIVE_SPACE)),
    ):
        name = context.name('transform', **{'from': ends[0], 'to': ends[1]})
        metadata = sidecar(
            'transform', common, context.sources('transform'), FromSpace=ends[0], ToSpace=ends[1]
        )
        learned = (('Registration', 'native_to_template'),)
        plan[field_name] = [PlannedOutput(name, metadata, learned=learned)]
    return plan


def plan_explain(
    context: OutputContext,
    doses: Sequence[float],
    output_spaces: Sequence[str],
    saliency: Sequence[str] = (),
) -> Plan:
    """List what the explain workflow writes, by the input of the sink that brings it.

    Parameters
    ----------
    context : OutputContext
        What they have in common.
    doses : sequence of float
        Doses of the simulated images.
    output_spaces : sequence of str
        ``T1w`` and/or ``template`` (or the template's name).
    saliency : sequence of str
        Saliency methods; none if empty.

    Returns
    -------
    dict
        Name of the sink's input -> outputs in the order of its files: both directions, in each
        the doses as given.
    """
    common, template = context.common, context.template
    membership = ((ALL_KEYS, 'membership'),)
    plan: Plan = {
        'anatomy': [
            PlannedOutput(
                context.name('anatomy', space=template),
                sidecar(
                    'anatomy',
                    common,
                    context.sources('anatomy'),
                    SpatialReference=context.reference(),
                ),
                template=True,
                optional=True,
            )
        ],
        'model_input': [
            PlannedOutput(
                context.name('model_input', space=template),
                sidecar(
                    'model_input',
                    common,
                    context.sources('model_input'),
                    Resolution=context.model_resolution,
                    SpatialReference=context.reference(),
                ),
                template=True,
            )
        ],
        VELOCITY: [
            PlannedOutput(
                context.name(context.field_kind, space=template, desc=file.direction),
                sidecar(
                    context.field_kind,
                    common,
                    context.sources('velocity'),
                    direction=file.direction,
                    Resolution=context.model_resolution,
                    SpatialReference=context.reference(),
                ),
                template=True,
                learned=(*membership, (KEYS_OF_FILE, 'velocity_facts')),
                stem=file.stem,
                label=file.label,
            )
            for file in field_files()
        ],
    }
    for kind in ('prediction', 'dose_response', 'counterfactual'):
        learned = () if kind == 'prediction' else membership
        metadata = sidecar(kind, common, context.sources(kind))
        plan[kind] = [PlannedOutput(context.name(kind), metadata, learned=learned)]
    for place, in_template in (('native', False), ('template', True)):
        if wants_space(output_spaces, place, template):
            plan |= _plan_realised(context, doses, place, in_template)
    return plan | _plan_saliency(context, saliency)


def _plan_saliency(context: OutputContext, methods: Sequence[str]) -> Plan:
    """List one map per method, which may not apply, and the summary."""
    if not methods:
        return {}
    membership = ((ALL_KEYS, 'membership'),)
    maps = [
        PlannedOutput(
            context.name('saliency', space=context.template, desc=file.label),
            sidecar(
                'saliency',
                context.common,
                context.sources('saliency'),
                Resolution=context.model_resolution,
                SpatialReference=context.reference(),
            ),
            template=True,
            learned=(*membership, (KEYS_OF_FILE, 'saliency_facts')),
            optional=True,
            stem=file.stem,
            label=file.label,
        )
        for file in saliency_files(methods)
    ]
    summary = PlannedOutput(
        context.name('saliency_methods'),
        sidecar('saliency_methods', context.common, context.sources('saliency_methods')),
        learned=membership,
    )
    return {SALIENCY: maps, 'saliency_methods': [summary]}


def wants_space(output_spaces: Sequence[str], place: str, template: str) -> bool:
    """Say whether maps are wanted at a ``place``, ``native`` or ``template``.

    Examples
    --------
    >>> wants_space(('T1w',), 'native', 'MNI'), wants_space(('MNI',), 'template', 'MNI')
    (True, True)
    """
    if place == 'native':
        return NATIVE_SPACE in output_spaces
    return TEMPLATE_SPACE in output_spaces or template in output_spaces


def _plan_realised(
    context: OutputContext, doses: Sequence[float], place: str, in_template: bool
) -> Plan:
    spaced = {'space': context.template, 'resolution': '1'} if in_template else {}
    own_sources = ('template_brain',) if in_template else ('preproc', 'mask', 'to_template')
    reference = context.reference() if in_template else None
    resolution = 'Isotropic voxels of 1 mm.' if in_template else None
    plan: Plan = {}
    for kind in ('simulated', 'logjacobian'):
        plan[REALISED[kind, place]] = [
            PlannedOutput(
                context.name(kind, desc=file.label, **spaced),
                sidecar(
                    kind,
                    context.common,
                    [context.own(key) for key in own_sources] + [context.velocity(file.direction)],
                    direction=file.direction,
                    dose=file.dose,
                    Resolution=resolution,
                    SpatialReference=reference,
                ),
                template=in_template,
                learned=((ALL_KEYS, 'membership'), (KEYS_OF_FILE, FACTS[place])),
                stem=file.stem,
                label=file.label,
            )
            for file in realised_files(kind, place, doses)
        ]
    return plan
