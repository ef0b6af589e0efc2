"""Explain files: names and order of the files that the explain workflow passes to its sink.

The nodes that write these files, the workflow that passes them on and the plan of the sink share
these definitions. The sink checks the order of the files by the stem of their names in the work
directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_interp.bids.names import dose_label
from bids_interp.constants import DIRECTIONS

VELOCITY = 'velocity'
SALIENCY = 'saliency'
#: Quantities that the realised images show.
QUANTITIES = ('simulated', 'logjacobian')
#: Output with the facts about the realised images of each space (JSON, by label).
FACTS = {'native': 'native_facts', 'template': 'template_facts'}


@dataclass(frozen=True)
class ExplainFile:
    """Identity of one file.

    Parameters
    ----------
    field : str
        Output of the explain workflow, and input of the sink, for this file.
    space : str
        Grid of the image: ``native`` (of the scan), ``template`` (of the model's template at 1 mm),
        ``model``, or the name of another template (at 1 mm).
    label : str
        Value of ``desc-``; also the key of the file's facts in a JSON file about several images.
    direction : {'inject', 'remove', ''}
        Direction of the simulation; empty for other files.
    dose : float
        Dose of the simulation; 0 for a file shared by all doses.
    """

    field: str
    space: str
    label: str
    direction: str = ''
    dose: float = 0.0

    @property
    def stem(self) -> str:
        """Return the name of the file in the work directory, without extension.

        Examples
        --------
        >>> ExplainFile('logjacobian_native', 'native', 'inject100', 'inject', 1.0).stem
        'logjacobian_native_inject100'
        """
        return f'{self.field}_{self.label}'


def stem_of(path: str | Path) -> str:
    """Return the name of a file in the work directory without extension; see `ExplainFile.stem`.

    Examples
    --------
    >>> stem_of('work/velocity_inject.nii.gz')
    'velocity_inject'
    """
    return Path(path).name.split('.')[0]


def field_files() -> tuple[ExplainFile, ...]:
    """Return the simulator fields, one per direction."""
    return tuple(
        ExplainFile(VELOCITY, 'model', direction, direction=direction) for direction in DIRECTIONS
    )


def realised_field(quantity: str, space: str) -> str:
    """Return the output of the explain workflow with the realised images of one space.

    Examples
    --------
    >>> realised_field('logjacobian', 'native')
    'logjacobian_native'
    """
    return f'{quantity}_{space}'


def realised_files(quantity: str, space: str, doses: Sequence[float]) -> tuple[ExplainFile, ...]:
    """Return the full-resolution images in one space.

    Parameters
    ----------
    quantity : {'simulated', 'logjacobian'}
        Quantity that the images show.
    space : str
        Space of the images: ``native``, ``template``, or the name of another template.
    doses : sequence of float
        Doses, the same for each direction.

    Examples
    --------
    >>> [file.stem for file in realised_files('simulated', 'template', [0.5])]
    ['simulated_template_inject050', 'simulated_template_remove050']
    """
    return tuple(
        ExplainFile(
            realised_field(quantity, space), space, dose_label(direction, dose), direction, dose
        )
        for direction in DIRECTIONS
        for dose in doses
    )


def saliency_files(methods: Sequence[str]) -> tuple[ExplainFile, ...]:
    """Return the saliency maps, labelled by method."""
    return tuple(ExplainFile(SALIENCY, 'model', method) for method in methods)
