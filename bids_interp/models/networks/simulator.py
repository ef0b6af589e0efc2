"""Simulator: network from an image and a signed dose to a stationary velocity field."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bids_interp.constants import FREE_CAPACITIES
from bids_interp.errors import ModelError
from bids_interp.models.networks.condconv import CondConv3d, FilmConv3d
from bids_interp.models.networks.ipmi2021 import PaperSimulator
from bids_interp.models.networks.pattern_simulator import PatternSimulator
from bids_interp.spatial import Grid, SplineEvaluator, smooth

#: The velocity ends within this distance from the faces of the grid.
BORDER_MM = 8.0
#: Largest standard deviation of the Gaussian that smooths the velocity.
MAX_SMOOTHING_MM = 200.0
#: Largest number of expert kernels.
MAX_EXPERTS = 100


def border_window(grid: Grid) -> np.ndarray:
    """Return a smooth window (X, Y, Z) float32: 0 at the faces of a grid, 1 from 8 mm inwards.

    Without it, a velocity could end with a jump at the border of its grid.
    """
    window = np.ones(grid.shape, np.float32)
    for axis, (size, step) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
        depth = step * np.minimum(np.arange(size), np.arange(size)[::-1])
        # Small grids keep their middle.
        reach = min(BORDER_MM, step * (size - 1) / 4)
        ramp = 0.5 - 0.5 * np.cos(np.pi * np.minimum(depth / reach, 1))
        window *= ramp.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    return window


def direction_code(dose: torch.Tensor, contrast: int = 0, contrasts: int = 1) -> torch.Tensor:
    """Return the one-hot code (B, 2 * contrasts) of contrast and direction.

    A code of -1 for a direction would be lost behind a rectifier.

    Examples
    --------
    >>> direction_code(torch.tensor([1.0, -0.5]), contrast=1, contrasts=2).tolist()
    [[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    code = dose.new_zeros(len(dose), 2 * contrasts)
    code[torch.arange(len(dose), device=dose.device), 2 * contrast + (dose < 0).long()] = 1
    return code


class ResidualNetwork(nn.Module):
    """Small conditional U-Net at half the model's resolution, with an output that starts at zero.

    The image enters through a strided convolution, and there is no skip connection at full
    resolution, so that texture of the image cannot reach the velocity.

    Parameters
    ----------
    convolution : callable
        :class:`CondConv3d` or :class:`FilmConv3d`.
    inputs : int
        Input channels.
    width : int
        Channels of the first stage.
    codes : int
        Length of the condition code.
    """

    def __init__(
        self, convolution: Callable[..., nn.Module], inputs: int, width: int, codes: int = 2
    ) -> None:
        super().__init__()
        self.enter = convolution(inputs, width, codes, stride=2)
        self.down = convolution(width, 2 * width, codes, stride=2)
        self.middle = convolution(2 * width, 2 * width, codes)
        self.up = convolution(3 * width, width, codes)
        self.norms = nn.ModuleList(
            nn.GroupNorm(4, channels) for channels in (width, 2 * width, 2 * width, width)
        )
        self.leave = nn.Conv3d(width, 3, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(
        self, data: torch.Tensor, code: torch.Tensor, size: tuple[int, ...]
    ) -> torch.Tensor:
        """Return coefficients (B, 3, *size) for data (B, inputs, X, Y, Z) and code (B, codes)."""
        half = F.leaky_relu(self.norms[0](self.enter(data, code)), 0.1)
        quarter = F.leaky_relu(self.norms[1](self.down(half, code)), 0.1)
        quarter = F.leaky_relu(self.norms[2](self.middle(quarter, code)), 0.1)
        back = F.interpolate(quarter, half.shape[2:], mode='trilinear', align_corners=True)
        both = torch.cat([back, half], dim=1)
        both = F.leaky_relu(self.norms[3](self.up(both, code)), 0.1)
        return F.interpolate(self.leave(both), size, mode='trilinear', align_corners=True)


class Simulator(nn.Module):
    """Simulator with a template velocity and a conditional residual, v = d g [V + r(x, sign d)].

    ``V`` is shared by all subjects; ``r`` sees the image, the template coordinates and the brain
    mask; ``g`` is the gain of the contrast, which scales the dose after the training. The velocity
    is a cubic B-spline on a lattice of half the model's resolution, smoothed by a Gaussian. By
    construction, the simulation is the identity at dose 0, invertible and without folding (up to
    discretisation), and exp(v_d) is a one-parameter path for each direction.

    Parameters
    ----------
    grid : Grid
        The model's grid.
    mask : numpy.ndarray
        Brain mask on the grid, (X, Y, Z).
    capacity : {'template', 'residual', 'condconv'}
        No residual; a residual conditioned by FiLM; one conditioned by conditional convolution.
    smoothing_mm : float
        Standard deviation of the Gaussian.
    width : int
        Channels of the first stage of the residual network.
    experts : int
        Number of expert kernels of the conditional convolution.
    contrasts : int
        Number of contrasts (:attr:`bids_interp.models.target.Target.contrasts`), each with its own
        template velocity. Exchanging the classes of a contrast is a negative dose.
    """

    #: Kind of the output: a stationary velocity, or a displacement.
    field = 'velocity'

    def __init__(
        self,
        grid: Grid,
        mask: np.ndarray,
        capacity: str = 'template',
        smoothing_mm: float = 6.0,
        width: int = 8,
        experts: int = 3,
        contrasts: int = 1,
    ) -> None:
        super().__init__()
        if capacity not in FREE_CAPACITIES:
            raise ModelError(
                f'Unknown simulator capacity {capacity!r}.', f'Choose one of {FREE_CAPACITIES}.'
            )
        if not 0 <= smoothing_mm <= MAX_SMOOTHING_MM:
            raise ModelError(
                f'The smoothing must be 0 to {MAX_SMOOTHING_MM:g} mm, not {smoothing_mm}.'
            )
        if not 1 <= experts <= MAX_EXPERTS:
            raise ModelError(f'1 to {MAX_EXPERTS} experts are possible, not {experts}.')
        self.grid, self.lattice = grid, grid.half()
        self.capacity, self.smoothing_mm, self.contrasts = capacity, smoothing_mm, contrasts
        self.evaluate_spline = SplineEvaluator(self.lattice, grid)
        # Coefficients are in voxels of the model's grid, so that step sizes do not depend on it.
        self.scale_mm = float(grid.spacing.mean())
        self.template = nn.Parameter(torch.zeros(contrasts, 3, *self.lattice.shape))
        self.gain: torch.Tensor
        # A template is scaled itself.
        self.register_buffer('gain', torch.ones(contrasts), persistent=capacity != 'template')
        self.register_load_state_dict_pre_hook(_add_gain)
        self.residual: ResidualNetwork | None = None
        if capacity != 'template':
            convolution = (
                FilmConv3d if capacity == 'residual' else partial(CondConv3d, experts=experts)
            )
            self.residual = ResidualNetwork(convolution, 5, width, 2 * contrasts)
        coordinates = grid.world_coordinates() / 100.0
        location = np.concatenate([coordinates, mask[None].astype(np.float32)])
        self.location: torch.Tensor
        self.register_buffer('location', torch.from_numpy(location)[None], persistent=False)
        self.window: torch.Tensor
        self.register_buffer('window', torch.from_numpy(border_window(grid)), persistent=False)

    def coefficients(
        self, image: torch.Tensor, dose: torch.Tensor, contrast: int = 0
    ) -> torch.Tensor:
        """Return B-spline coefficients at dose 1 in each direction, (B, 3, *lattice), mm."""
        momentum = self.template[contrast : contrast + 1]
        if self.residual is not None:
            location = self.location.expand(image.shape[0], -1, -1, -1, -1)
            data = torch.cat([image, location], dim=1)
            momentum = momentum + self.residual(
                data,
                direction_code(dose, contrast, self.contrasts),
                tuple(self.lattice.shape),
            )
        scale = self.scale_mm * self.gain[contrast]
        return smooth(momentum, self.smoothing_mm, self.lattice) * scale

    @torch.no_grad()
    def absorb_gain(self) -> None:
        """Multiply the template by the gain, which becomes 1; for a residual that is still 0."""
        self.template.mul_(self.gain.view(-1, 1, 1, 1, 1))
        self.gain.fill_(1.0)

    def forward(self, image: torch.Tensor, dose: torch.Tensor, contrast: int = 0) -> torch.Tensor:
        """Return the velocity on the model's grid.

        Parameters
        ----------
        image : torch.Tensor
            (B, 1, X, Y, Z), the classifier's input.
        dose : torch.Tensor
            (B,) in [-1, 1]; positive injects the positive class, negative removes it. Without a
            residual the image is not used.
        contrast : int
            Index of the contrast.

        Returns
        -------
        torch.Tensor
            (B, 3, X, Y, Z), mm along world axes; tissue moves by exp(v).
        """
        velocity = self.evaluate_spline(self.coefficients(image, dose, contrast))
        return dose.view(-1, 1, 1, 1, 1) * velocity * self.window


def _add_gain(
    simulator: Simulator, state: dict[str, torch.Tensor], prefix: str, *_: object
) -> None:
    """Add the gain of 1 to the weights of a residual of version 0.1.0, which was not scaled."""
    if simulator.residual is not None:
        state.setdefault(f'{prefix}gain', torch.ones(simulator.contrasts))


#: Any network from an image and a signed dose to a field.
AnySimulator = Simulator | PatternSimulator | PaperSimulator


def build_simulator(grid: Grid, mask: np.ndarray, arguments: dict[str, Any]) -> AnySimulator:
    """Return a new simulator with the arguments that a bundle records.

    Parameters
    ----------
    grid, mask
        See :class:`Simulator`.
    arguments : dict
        Other arguments of the simulator.

    Raises
    ------
    ModelError
        If the arguments are not valid.
    """
    arguments = dict(arguments)
    try:
        kinds = {'ipmi2021': PaperSimulator, 'pattern': PatternSimulator}
        kind = kinds.get(arguments.get('capacity', ''))
        if kind is not None:
            del arguments['capacity']
            return kind(grid, mask, **arguments)
        return Simulator(grid, mask, **arguments)
    except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise ModelError(f'The arguments of the simulator are not valid: {error}.') from error
