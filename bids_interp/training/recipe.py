"""Recipe of a training: all settings except the data, with presets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from bids_interp.constants import CAPACITIES, PRESET_NAMES
from bids_interp.errors import UsageError
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.training.classifier import ClassifierRecipe
from bids_interp.training.ipmi2021 import PaperRecipe
from bids_interp.training.morphometry import MorphometryRecipe
from bids_interp.training.pattern.fit import PatternRecipe
from bids_interp.training.simulator import SimulatorRecipe


@dataclass(frozen=True)
class TrainingRecipe:
    """How a model bundle is trained.

    Parameters
    ----------
    spacing_mm : float
        Voxel size of the model's grid.
    cube : int
        Size of the grid in voxels along each axis; 0 fits the grid to the template's brain.
    n_folds : int
        Number of folds of the cross-validation.
    members : int
        Number of classifiers per fold, trained from different seeds. Each step of the simulator
        uses one of them.
    preprocessing : Preprocessing
        Intensity preprocessing.
    classifier, simulator
        Recipes of the two networks.
    """

    spacing_mm: float = 3.0
    cube: int = 0
    n_folds: int = 5
    members: int = 1
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classifier: ClassifierRecipe | MorphometryRecipe = field(default_factory=ClassifierRecipe)
    simulator: SimulatorRecipe | PatternRecipe | PaperRecipe = field(default_factory=PatternRecipe)

    def digest(self) -> str:
        """Return a short hash, so that a changed recipe never resumes another one's checkpoint."""
        return recipe_digest(self)


def recipe_digest(recipe: object) -> str:
    """Return a short hash of a recipe.

    Examples
    --------
    >>> recipe_digest(PaperRecipe()) == recipe_digest(PaperRecipe(steps=2))
    False
    """
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:8]


_RECIPES = (
    TrainingRecipe(),
    TrainingRecipe(spacing_mm=4.0, n_folds=3),
    # Section 3 and the published code of Liu et al., IPMI 2021.
    TrainingRecipe(
        spacing_mm=3.0,
        cube=64,
        preprocessing=Preprocessing(normalisation='zscore'),
        classifier=ClassifierRecipe(
            architecture='ipmi2021',
            steps=1000,
            batch=40,
            optimizer='adam',
            schedule='constant',
            learning_rate=5e-4,
            weight_decay=1e-4,
            gradient_penalty=0.0,
            label_smoothing=0.0,
            validate_every=50,
            augmentation=None,
        ),
        simulator=PaperRecipe(),
    ),
)
PRESETS: dict[str, TrainingRecipe] = dict(zip(PRESET_NAMES, _RECIPES, strict=True))


#: Steps of the residual of a simulator that has one.
RESIDUAL_STEPS = 60
#: Simulators with a free velocity, by preset.
FREE_SIMULATORS: dict[str, SimulatorRecipe] = {
    'default': SimulatorRecipe(template_steps=240, candidates=(0.5, 1.0, 2.0)),
    'fast': SimulatorRecipe(template_steps=240),
}
#: Template settings for morphometric classifiers. Their gradients are smooth, so that one rate for
#: all voxels keeps the pattern and few steps suffice. For the rougher gradients of other networks,
#: per-voxel rates of Adam and more steps give more accurate maps.
MORPHOMETRIC_TEMPLATE: dict[str, Any] = {
    'template_optimizer': 'shared',
    'template_rate': 1e-3,
    'template_steps': 80,
}


def make_recipe(
    preset: str,
    *,
    capacity: str | None = None,
    architecture: str | None = None,
    n_folds: int | None = None,
    spacing_mm: float | None = None,
    cube: int | None = None,
    members: int | None = None,
    classifier_steps: int | None = None,
    simulator_steps: int | None = None,
    batch: int | None = None,
    gradient_penalty: float | None = None,
) -> TrainingRecipe:
    """Return the recipe of a preset with the given changes.

    Parameters
    ----------
    preset : str
        Key of ``PRESETS``.
    capacity, architecture : str, optional
        Capacity of the simulator, architecture of the classifier.
    n_folds, members, cube, spacing_mm
        See :class:`TrainingRecipe`.
    classifier_steps, simulator_steps : int, optional
        Training steps of the classifier, and of each stage of the simulator.
    batch : int, optional
        Images per step of both networks.
    gradient_penalty : float, optional
        Weight of the gradient penalty; ignored for the morphometric classifier.

    Raises
    ------
    UsageError
        If the preset is unknown or has no choice of capacity, or if steps are given for a
        classifier that is fitted without steps.
    """
    if preset not in PRESETS:
        raise UsageError(f'There is no preset {preset!r}.', f'Presets: {", ".join(PRESETS)}.')
    recipe = PRESETS[preset]
    recipe = replace(
        recipe,
        n_folds=recipe.n_folds if n_folds is None else n_folds,
        spacing_mm=recipe.spacing_mm if spacing_mm is None else spacing_mm,
        cube=recipe.cube if cube is None else cube,
        members=recipe.members if members is None else members,
    )
    classifier, simulator = recipe.classifier, recipe.simulator
    if architecture is not None:
        classifier = _with_architecture(classifier, architecture)
    if capacity is not None:
        simulator = _with_capacity(simulator, capacity, preset)
    if isinstance(classifier, MorphometryRecipe) and isinstance(simulator, SimulatorRecipe):
        simulator = replace(simulator, **MORPHOMETRIC_TEMPLATE)
    if classifier_steps is not None:
        if isinstance(classifier, MorphometryRecipe):
            raise UsageError(
                'A morphometric classifier is not trained in steps.',
                'Omit --classifier-steps, or select a network, such as --classifier robust.',
            )
        every = min(classifier.validate_every, classifier_steps)
        classifier = replace(classifier, steps=classifier_steps, validate_every=every)
    if simulator_steps is not None:
        simulator = _with_steps(simulator, simulator_steps)
    if batch is not None:
        if not isinstance(simulator, PatternRecipe):
            simulator = replace(simulator, batch=batch)
        if isinstance(classifier, ClassifierRecipe):
            classifier = replace(classifier, batch=batch)
    if gradient_penalty is not None and isinstance(classifier, ClassifierRecipe):
        classifier = replace(classifier, gradient_penalty=gradient_penalty)
    return replace(recipe, classifier=classifier, simulator=simulator)


def _with_architecture(
    classifier: ClassifierRecipe | MorphometryRecipe, architecture: str
) -> ClassifierRecipe | MorphometryRecipe:
    """Replace the architecture and, if needed, the kind of recipe."""
    kind = MorphometryRecipe if architecture == MorphometryRecipe.architecture else ClassifierRecipe
    if not isinstance(classifier, kind):
        return kind(architecture=architecture)
    if isinstance(classifier, MorphometryRecipe):
        return classifier  # There is only one architecture of this kind.
    return replace(classifier, architecture=architecture, arguments={})


def _with_capacity(
    simulator: SimulatorRecipe | PatternRecipe | PaperRecipe, capacity: str, preset: str
) -> SimulatorRecipe | PatternRecipe:
    if isinstance(simulator, PaperRecipe):
        raise UsageError('--preset ipmi2021 has a fixed simulator, so --capacity does not apply.')
    if capacity not in CAPACITIES:
        raise UsageError(f'There is no --capacity {capacity!r}.', f'Choose from {CAPACITIES}.')
    if capacity == PatternRecipe.capacity:
        return PatternRecipe()
    residual = 0 if capacity == 'template' else RESIDUAL_STEPS
    return replace(FREE_SIMULATORS[preset], capacity=capacity, residual_steps=residual)


def _with_steps(
    simulator: SimulatorRecipe | PatternRecipe | PaperRecipe, steps: int
) -> SimulatorRecipe | PaperRecipe:
    if isinstance(simulator, PatternRecipe):
        raise UsageError(
            'A pattern is not trained in steps.',
            'Omit --simulator-steps, or choose another --capacity.',
        )
    if isinstance(simulator, PaperRecipe):
        return replace(simulator, steps=steps)
    residual = min(simulator.residual_steps, steps)
    return replace(simulator, template_steps=steps, residual_steps=residual)
