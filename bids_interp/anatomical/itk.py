"""ITK affine files, converted to and from the RAS matrices used in the package.

ITK transforms pull back: the file that warps a T1w image to a template maps template points to T1w
points, in LPS.
"""

from __future__ import annotations

import numpy as np

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS <-> LPS


def lps_parameters_to_ras(parameters: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Convert 12 ITK parameters (matrix by rows, translation) and a centre (3,) to a RAS matrix.

    The ITK transform is ``y = M (x - c) + c + t``.

    Examples
    --------
    >>> moved = lps_parameters_to_ras(np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 5, 0, 2.0]), np.zeros(3))
    >>> moved[:3, 3].tolist()
    [-5.0, 0.0, 2.0]
    """
    lps = np.eye(4)
    lps[:3, :3] = np.asarray(parameters[:9]).reshape(3, 3)
    lps[:3, 3] = np.asarray(parameters[9:12]) + centre - lps[:3, :3] @ centre
    return FLIP @ lps @ FLIP


def itk_text(matrix: np.ndarray) -> str:
    """Return the ITK text of an affine (4 x 4) from fixed to moving points, RAS mm."""
    lps = FLIP @ np.asarray(matrix, dtype=np.float64) @ FLIP
    numbers = ' '.join(repr(float(v)) for v in [*lps[:3, :3].ravel(), *lps[:3, 3]])
    return (
        '#Insight Transform File V1.0\n#Transform 0\n'
        'Transform: AffineTransform_double_3_3\n'
        f'Parameters: {numbers}\nFixedParameters: 0 0 0\n'
    )


def parse_itk_text(text: str) -> np.ndarray:
    """Return the affine (4 x 4, RAS) of an ITK text, such as one of :func:`itk_text`.

    Examples
    --------
    >>> matrix = np.eye(4)
    >>> matrix[:3, 3] = 1, 2, 3
    >>> bool(np.allclose(parse_itk_text(itk_text(matrix)), matrix))
    True
    """
    lines = dict(line.split(':', 1) for line in text.splitlines() if ':' in line)
    try:
        parameters = np.array([float(v) for v in lines['Parameters'].split()])
        centre = np.array([float(v) for v in lines['FixedParameters'].split()])
    except (KeyError, ValueError) as error:
        raise ValueError('The text is not an ITK affine.') from error
    if parameters.size != 12 or centre.size != 3:
        raise ValueError('The text is not a three-dimensional ITK affine.')
    return lps_parameters_to_ras(parameters, centre)
