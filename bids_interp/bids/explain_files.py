"""Files that the explain workflow hands to its sink: what each one is, and in which order.

The nodes that write these files, the workflow that passes them on and the plan of the sink all take
names and order from here. The identity of a file is the beginning of its name in the work
directory, so that the sink notices files in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bids_interp.bids.names import dose_label
from bids_interp.constants import DIRECTIONS

VELOCITY = 'velocity'
SALIENCY = 'saliency'
#: Output of the explain workflow by what an image shows and the space it is in.
REALISED = {
    ('simulated', 'native'): 'simulated_native',
    ('logjacobian', 'native'): 'logjacobian_native',
    ('simulated', 'template'): 'simulated_template',
    ('logjacobian', 'template'): 'logjacobian_template',
}
#: Output with the facts about the realised images of a space (JSON, by label).
FACTS = {'native': 'native_facts', 'template': 'template_facts'}


@dataclass(frozen=True)
class ExplainFile:
    """Identity of one file.

    Parameters
    ----------
    field : str
        Output of the explain workflow and input of the sink that carry it.
    space : {'native', 'template', 'model'}
        Grid of the image: the scan's own, the template's at 1 mm, or the model's.
    label : str
        Name among the files of the field and value of ``desc-``; also the key of its facts in a
        JSON file about several images.
    direction : {'inject', 'remove', ''}
        Direction of the simulation; empty for what is not a simulation.
    dose : float
        Dose of the simulation; 0 for a file that belongs to all doses.
    """

    field: str
    space: str
    label: str
    direction: str = ''
    dose: float = 0.0

    @property
    def stem(self) -> str:
        """Name of the file in the work directory, without extension.

        Examples
        --------
        >>> ExplainFile('logjacobian_native', 'native', 'inject100', 'inject', 1.0).stem
        'logjacobian_native_inject100'
        """
        return f'{self.field}_{self.label}'


def field_files() -> tuple[ExplainFile, ...]:
    """Return the fields of the simulators, one for each direction."""
    return tuple(
        ExplainFile(VELOCITY, 'model', direction, direction=direction) for direction in DIRECTIONS
    )


def realised_files(quantity: str, space: str, doses: Sequence[float]) -> tuple[ExplainFile, ...]:
    """Return the full-resolution images of one space.

    Parameters
    ----------
    quantity : {'simulated', 'logjacobian'}
        What the images show.
    space : {'native', 'template'}
        Where they are.
    doses : sequence of float
        Doses of each direction.

    Examples
    --------
    >>> [file.stem for file in realised_files('simulated', 'template', [0.5])]
    ['simulated_template_inject050', 'simulated_template_remove050']
    """
    return tuple(
        ExplainFile(REALISED[quantity, space], space, dose_label(direction, dose), direction, dose)
        for direction in DIRECTIONS
        for dose in doses
    )


def saliency_files(methods: Sequence[str]) -> tuple[ExplainFile, ...]:
    """Return the saliency maps; the label of each is the method."""
    return tuple(ExplainFile(SALIENCY, 'model', method) for method in methods)
