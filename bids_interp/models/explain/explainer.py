"""Explainer of one subject: classify, simulate, realise on any grid, and measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import torch

from bids_interp.constants import DIRECTION_SIGNS, SIGN
from bids_interp.device import resolve_device
from bids_interp.errors import ModelError
from bids_interp.models.bundle.reader import ModelBundle
from bids_interp.models.preprocessing import as_volume, to_model_grid
from bids_interp.spatial import (
    Grid,
    forward_map,
    jacobian_determinant,
    pull_back,
    refine_velocity,
    warp,
)
from bids_interp.spatial.jacobian import SMALLEST_DETERMINANT
from bids_interp.spatial.mask import brain_voxels

#: Default doses of a dose-response curve.
DOSE_GRID = (0.25, 0.5, 0.75, 1.0)
#: Margin around the brain's box in which a field is integrated.
BOX_MARGIN_MM = 2.0
#: Share of the brain's brightness below which a voxel is a trace of interpolation.
FAINTEST = 1e-4


@dataclass(frozen=True)
class FoldPrediction:
    """Logit and calibrated probability of the classifier of one fold."""

    fold: int
    logit: float
    probability: float


@dataclass(frozen=True)
class Simulation:
    """Velocities of one subject for dose 1 in both directions.

    Parameters
    ----------
    grid : Grid
        The model's grid, in template space.
    velocity : dict
        Mean over the folds for each direction, (3, X, Y, Z) float32, mm.
    per_fold : dict
        Velocities of all folds for each direction, (folds, 3, X, Y, Z).
    folds : tuple of int
        Folds that were used.
    kind : {'velocity', 'displacement'}
        Kind of the fields, see :func:`bids_interp.spatial.flow`.
    """

    grid: Grid
    velocity: dict[str, np.ndarray]
    per_fold: dict[str, np.ndarray]
    folds: tuple[int, ...]
    kind: str = 'velocity'

    @property
    def velocity_sd(self) -> dict[str, np.ndarray]:
        """Standard deviation over the folds for each direction, (3, X, Y, Z)."""
        return {direction: maps.std(axis=0) for direction, maps in self.per_fold.items()}


@dataclass(frozen=True)
class Response:
    """Prediction of one fold at one dose: a row of the dose-response table.

    Parameters
    ----------
    direction : {'none', 'inject', 'remove'}
        Direction of the simulation; ``'none'`` is the observed image.
    dose : float
        Unsigned dose; 0 for the observed image.
    fold : int
        Number of the fold.
    logit, probability : float
        Prediction of the fold.
    shift, shift_over_class_gap : float
        Change of the logit, absolute and divided by the class gap.
    """

    direction: str
    dose: float
    fold: int
    logit: float
    probability: float
    shift: float
    shift_over_class_gap: float


@dataclass(frozen=True)
class Realisation:
    """A simulation realised on one grid.

    Parameters
    ----------
    image : numpy.ndarray
        Simulated image (X, Y, Z), 0 outside the warped brain mask.
    log_jacobian : numpy.ndarray
        Log-Jacobian of the forward map (X, Y, Z), on the grid of the observed image and 0 outside
        its brain mask. Positive values mean expansion from the observed to the simulated image.
    n_folded : int
        Number of voxels with a determinant that is not positive, in the brain and around it.
    displacement_max_mm : float
        Longest displacement, in the brain and around it.
    """

    image: np.ndarray
    log_jacobian: np.ndarray
    n_folded: int
    displacement_max_mm: float


@dataclass(frozen=True)
class Explanation:
    """Result of one method for one image; the same type for every explainer.

    Parameters
    ----------
    map : numpy.ndarray
        Map (X, Y, Z) on ``grid``.
    grid : Grid
        Grid of the explained image.
    kind : str
        Kind of the map, ``'log_jacobian'``.
    sign : str
        Meaning of positive and negative values.
    image : numpy.ndarray
        Simulated image (X, Y, Z).
    predictions : tuple of FoldPrediction
        Predictions for the observed image.
    """

    map: np.ndarray
    grid: Grid
    kind: str
    sign: str
    image: np.ndarray
    predictions: tuple[FoldPrediction, ...]


def prepare_input(
    brain: np.ndarray, native: Grid, native_to_template: np.ndarray, bundle: ModelBundle
) -> torch.Tensor:
    """Return the classifier input (1, 1, X, Y, Z) of a brain, or a head if the model takes heads.

    See :func:`bids_interp.models.preprocessing.to_model_grid`.
    """
    return to_model_grid(
        brain,
        native,
        native_to_template,
        bundle.grid,
        bundle.brain_mask,
        bundle.config.preprocessing,
    )


def _need_folds(folds: Sequence[int]) -> tuple[int, ...]:
    if not folds:
        raise ModelError(
            'Every fold of this model was trained on this subject, so none may explain it.',
            'Train the model with several folds, or explain other subjects.',
        )
    return tuple(folds)


@torch.no_grad()
def classify(
    bundle: ModelBundle, image: torch.Tensor, folds: Sequence[int], device: str = 'cpu'
) -> list[FoldPrediction]:
    """Return logit and probability of one input (1, 1, X, Y, Z) for each fold.

    With several classes they compare the positive with the negative class of the contrast. For a
    regression the logit is the standardised value, and there is no probability.
    """
    predictions = []
    for index in _need_folds(folds):
        models = bundle.fold(index, device)
        logit = float(models.score(image.to(device))[0])
        probability = float('nan')  # for a regression
        if bundle.full_target.kind != 'regression':
            probability = models.probability(logit)
        predictions.append(FoldPrediction(index, logit, probability))
    return predictions


@torch.no_grad()
def simulate(
    bundle: ModelBundle, image: torch.Tensor, folds: Sequence[int], device: str = 'cpu'
) -> Simulation:
    """Return the velocities of one input (1, 1, X, Y, Z) at dose 1, for inject and remove.

    The velocity for another dose of the same direction is dose times this one. The velocity of
    ``remove`` includes the sign: tissue always moves by exp(dose * velocity).
    """
    folds = _need_folds(folds)
    per_fold = {}
    for direction, sign in DIRECTION_SIGNS.items():
        dose = torch.tensor([sign], device=device)
        maps = [bundle.fold(i, device).field(image.to(device), dose)[0].cpu() for i in folds]
        per_fold[direction] = torch.stack(maps).numpy()
    velocity = {direction: maps.mean(axis=0) for direction, maps in per_fold.items()}
    return Simulation(bundle.grid, velocity, per_fold, folds, bundle.field_kind)


def apply_field(
    image: torch.Tensor, field: np.ndarray, dose: float, grid: Grid, kind: str
) -> torch.Tensor:
    """Move the tissue of an image (1, 1, X, Y, Z) by a field (3, X, Y, Z) times a dose."""
    return warp(image, pull_back(torch.from_numpy(field)[None] * dose, grid, kind), grid)


@torch.no_grad()
def dose_response(
    bundle: ModelBundle,
    image: torch.Tensor,
    simulation: Simulation,
    doses: Sequence[float] = DOSE_GRID,
    device: str = 'cpu',
) -> list[Response]:
    """Return the predictions of every fold for the observed image and each direction and dose."""
    observed = {p.fold: p for p in classify(bundle, image, simulation.folds, device)}
    rows = [_response_row(bundle, observed, p, 'none', 0.0, device) for p in observed.values()]
    for direction, velocity in simulation.velocity.items():
        for dose in sorted(set(doses)):
            simulated = apply_field(image, velocity, dose, bundle.grid, simulation.kind)
            for prediction in classify(bundle, simulated, simulation.folds, device):
                rows.append(_response_row(bundle, observed, prediction, direction, dose, device))
    return rows


def _response_row(
    bundle: ModelBundle,
    observed: dict[int, FoldPrediction],
    prediction: FoldPrediction,
    direction: str,
    dose: float,
    device: str,
) -> Response:
    shift = prediction.logit - observed[prediction.fold].logit
    gap = bundle.fold(prediction.fold, device).class_gap
    return Response(
        direction,
        float(dose),
        prediction.fold,
        prediction.logit,
        prediction.probability,
        shift,
        shift / gap,
    )


@torch.no_grad()
def realise(
    velocity: np.ndarray,
    velocity_grid: Grid,
    dose: float,
    image: np.ndarray,
    grid: Grid,
    grid_to_template: np.ndarray | None = None,
    kind: str = 'velocity',
    inside: np.ndarray | None = None,
) -> Realisation:
    """Realise a simulation at full resolution, in template space or a subject's own space.

    The velocity (not the log-Jacobian) is resampled to the grid and integrated there, and the image
    is warped once. Only the box around the brain is computed. The results are masked, not the
    velocity: the map by the brain mask, and the simulated image by the mask after the same warp, so
    that tissue which leaves the mask of the observed brain is not cut off.

    Parameters
    ----------
    velocity : numpy.ndarray
        (3, X, Y, Z) for dose 1, mm along the axes of the template's world.
    velocity_grid : Grid
        Grid of the velocity.
    dose : float
        Non-negative factor.
    image : numpy.ndarray
        Brain (X', Y', Z') on ``grid``, zero outside.
    grid : Grid
        Grid of the results.
    grid_to_template : numpy.ndarray, optional
        4 x 4 from the world of ``grid`` to the template's; identity by default.
    kind : {'velocity', 'displacement'}
        Kind of the field, see :func:`bids_interp.spatial.flow`.
    inside : numpy.ndarray, optional
        Brain mask (X', Y', Z') of the image; by default from its intensities.

    Returns
    -------
    Realisation
        Results on ``grid``.
    """
    mask = brain_voxels(image, FAINTEST) if inside is None else inside
    # Tissue moves by at most the largest speed, which limits the margin around the brain.
    reach = BOX_MARGIN_MM + dose * float(np.abs(velocity).max())
    start, stop = _brain_box(mask, margin=np.ceil(reach / grid.spacing).astype(int))
    part = grid.crop(start, stop)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    field = dose * refine_velocity(velocity, velocity_grid, part, grid_to_template)
    forward = forward_map(field, part, kind)
    determinant = jacobian_determinant(forward, part)
    folded = int((determinant <= 0).sum())
    log_j = determinant.clamp_min_(SMALLEST_DETERMINANT).log_()
    longest = float(forward.square().sum(dim=1).max().sqrt())
    del forward
    both = torch.from_numpy(np.stack([image[box], mask[box]]).astype(np.float32))[None]
    moved, moved_mask = warp(both, pull_back(field, part, kind), part)[0].numpy()
    result, log_map = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    # The background does not darken the rim of the moved brain.
    result[box] = np.where(moved_mask >= 0.5, moved / np.maximum(moved_mask, 0.5), 0)
    log_map[box] = np.where(mask[box], log_j[0, 0].numpy(), 0)
    return Realisation(result, log_map, folded, longest)


def explain(
    brain: nib.Nifti1Image,
    model: ModelBundle,
    *,
    direction: str = 'inject',
    dose: float = 1.0,
    native_to_template: np.ndarray | None = None,
    folds: Sequence[int] | None = None,
    device: str = 'auto',
) -> Explanation:
    """Explain the classification of one skull-stripped brain by expansion and contraction.

    Parameters
    ----------
    brain : nibabel.Nifti1Image
        T1w intensities, 0 or NaN outside the brain, in any orientation. The whole head for a model
        that was trained with the skull on.
    model : ModelBundle
        Model opened by :func:`bids_interp.load_model`.
    direction : {'inject', 'remove'}
        Direction towards the positive or the negative class.
    dose : float
        Share of the class gap, 0 to 1.
    native_to_template : numpy.ndarray, optional
        4 x 4 from the world of the image to that of the model's template, RAS+ mm; identity by
        default, for a brain in template space.
    folds : sequence of int, optional
        Folds to use; all by default. For a training subject, use the folds of
        :meth:`ModelBundle.membership`.
    device : str
        ``'auto'``, ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.

    Returns
    -------
    Explanation
        Log-Jacobian map and simulated image on the grid of ``brain``.

    Raises
    ------
    ValueError
        If the direction is unknown.
    ImageError
        If the image is not a volume, or empty.
    """
    if direction not in DIRECTION_SIGNS:
        raise ValueError(
            f'Unknown direction {direction!r}; choose one of {tuple(DIRECTION_SIGNS)}.'
        )
    torch_device = resolve_device(device)
    data = as_volume(np.asarray(brain.dataobj, dtype=np.float32))
    grid = Grid.from_image(brain)
    between = np.eye(4) if native_to_template is None else native_to_template
    chosen = tuple(range(model.n_folds)) if folds is None else tuple(folds)
    image = prepare_input(data, grid, between, model)
    predictions = classify(model, image, chosen, torch_device)
    simulation = simulate(model, image, chosen, torch_device)
    result = realise(
        simulation.velocity[direction],
        simulation.grid,
        dose,
        data,
        grid,
        between,
        simulation.kind,
    )
    return Explanation(
        result.log_jacobian, grid, 'log_jacobian', SIGN, result.image, tuple(predictions)
    )


def _brain_box(mask: np.ndarray, margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return first and last (excluded) voxel of a mask with a margin inside the image."""
    start, stop = np.zeros(3, int), np.array(mask.shape)
    if mask.any():
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            where = np.flatnonzero(mask.any(axis=others))
            start[axis] = max(0, where[0] - margin[axis])
            stop[axis] = min(mask.shape[axis], where[-1] + 1 + margin[axis])
    return start, stop
