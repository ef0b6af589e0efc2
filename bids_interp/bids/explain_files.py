"""Files that the explain workflow hands to its sink: what each one is, and in which order.

The nodes that write these files, the workflow that passes them on and the plan of the sink all take
names and order from here. The identity of a file is the beginning of its name in the work
directory, so that the sink notices files in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bids_interp.bids.names import dose_label
from bids_interp.conventions import DIRECTIONS

VELOCITY = 'velocity'
SALIENCY = 'saliency'
#: Output of the explain workflow by what an image shows and the space it is in.
REALISED = {
    ('simulated', 'native'): 'simulated_native',
    ('logjacobian', 'native'): 'logjacobian_native',
    ('simulated', 'template'): 'simulated_template',
    ('logjacobian', 'template'): 'logjacobian_template',
}
#: Output with the facts about the realised images of a space (JSON, see :func:`facts_key`).
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
    direction : {'inject', 'remove'}, optional
        Direction of the simulation.
    dose : float, optional
        Dose of the simulation, positive.
    method : str, optional
        Saliency method.
    """

    field: str
    space: str
    direction: str | None = None
    dose: float | None = None
    method: str | None = None

    @property
    def stem(self) -> str:
        """Name of the file in the work directory, without extension.

        Examples
        --------
        >>> ExplainFile('logjacobian_native', 'native', 'inject', 1.0).stem
        'logjacobian_native_inject100'
        """
        parts = [self.field]
        if self.direction is not None:
            label = self.direction if self.dose is None else dose_label(self.direction, self.dose)
            parts.append(label)
        if self.method is not None:
            parts.append(self.method)
        return '_'.join(parts)


def field_files() -> tuple[ExplainFile, ...]:
    """Return the fields of the simulators, one for each direction."""
    return tuple(ExplainFile(VELOCITY, 'model', direction) for direction in DIRECTIONS)


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
        ExplainFile(REALISED[quantity, space], space, direction, dose)
        for direction in DIRECTIONS
        for dose in doses
    )


def saliency_files(methods: Sequence[str]) -> tuple[ExplainFile, ...]:
    """Return the saliency maps, one for each method."""
    return tuple(ExplainFile(SALIENCY, 'model', method=method) for method in methods)


def facts_key(file: ExplainFile) -> str:
    """Return the key of a file's facts: the same for all images of one simulation in one space."""
    return file.stem.removeprefix(f'{file.field}_')
