"""Train level options of ``bids_interp``."""

from __future__ import annotations

from typing import Any

import click

from bids_interp.cli.params import (
    GROUP,
    PARTICIPANT,
    TRAIN,
    FileOrName,
    Option,
    OptionGroup,
    flag,
    path_option,
)
from bids_interp.constants import CAPACITIES, PRESET_NAMES

LABELS = OptionGroup('Training: labels', (TRAIN,))
METHOD = OptionGroup('Training: method', (TRAIN,))
BUNDLE = OptionGroup('Training: model bundle', (TRAIN,))
OWN = OptionGroup('Training: your own classifier', (TRAIN,))

BY_PRESET = 'set by --preset'


def _number(name: str, kind: click.ParamType, text: str, default: str = BY_PRESET) -> Option:
    return Option([name], group=METHOD, type=kind, show_default=default, help=text)


def _text(name: str, group: OptionGroup, metavar: str, text: str, **attrs: Any) -> Option:
    attrs.setdefault('show_default', False)
    return Option([name], group=group, metavar=metavar, help=text, **attrs)


def train_options() -> list[Option]:
    """Return the options of the ``train`` level."""
    return [*_labels(), *_method(), *_own(), *_bundle()]


def _labels() -> list[Option]:
    return [
        _text(
            '--label',
            LABELS,
            'COLUMN',
            'Column of participants.tsv (or sessions.tsv) with the labels. Required.',
        ),
        _text(
            '--positive', LABELS, 'VALUE', 'Value of the positive class (the pattern to inject).'
        ),
        _text(
            '--negative',
            LABELS,
            'VALUE',
            'Value of the negative class.',
            show_default='the other value, if the column has two',
        ),
        _text(
            '--classes',
            LABELS,
            'VALUE...',
            'Values of three or more classes, the reference class first.',
            is_list=True,
        ),
        flag('--regression', group=LABELS, help='Predict a number, such as a score.'),
        path_option(
            '--labels',
            group=LABELS,
            levels=(GROUP, TRAIN),
            metavar='FILE',
            help='TSV table that replaces the tables of the dataset. Columns: participant_id, '
            'session_id if values differ between sessions, and the columns used.',
        ),
        _text(
            '--covariates',
            LABELS,
            'COLUMN...',
            'Columns used to balance the folds and reported as potential confounds; the group '
            'level adjusts its tests for them.',
            is_list=True,
            levels=(GROUP, TRAIN),
        ),
        _text(
            '--family',
            LABELS,
            'COLUMN',
            'Column that identifies related images (siblings, copies of one brain); they always '
            'stay in the same fold, and the group level permutes whole families.',
            show_default='the participant',
            levels=(GROUP, TRAIN),
        ),
        flag(
            '--allow-unlabelled',
            group=LABELS,
            help='Skip images without a label. By default they are an error.',
        ),
    ]


def _method() -> list[Option]:
    return [
        Option(
            ['--preset'],
            group=METHOD,
            type=click.Choice(PRESET_NAMES),
            default='default',
            help='default: 3 mm, 5 folds. fast: 4 mm, 3 folds, morphometric classifier. '
            'ipmi2021: the published method, for comparison.',
        ),
        Option(
            ['--capacity'],
            group=METHOD,
            type=click.Choice(CAPACITIES),
            show_default='pattern',
            help='What the simulator can express. pattern: the measured difference between the '
            'classes, where the classifier uses it. Velocities that are free to move the '
            'classifier: template is one change for all subjects; residual and condconv add a '
            'change that depends on the subject.',
        ),
        _text(
            '--classifier',
            METHOD,
            'NAME|FILE',
            'Architecture to train (morphometric, robust, sfcn, ipmi2021), or the file of a '
            'trained classifier: .pt2 (torch.export), or .safetensors (weights of an '
            'architecture). With a file only the simulators are trained. auto trains '
            'morphometric and the network of the preset and explains the better one on the '
            'validation splits; on a CPU, the network is left out below 500 families unless '
            '--classifier-steps is given.',
            type=FileOrName(),
            show_default='auto; of --preset fast, morphometric; of --preset ipmi2021, ipmi2021',
        ),
        _number('--folds', click.IntRange(2), 'Number of cross-validation folds.'),
        _number('--members', click.IntRange(1), 'Number of classifiers per fold.', '1'),
        _text(
            '--model-template',
            METHOD,
            'NAME',
            'TemplateFlow name of the template to which brains are registered, and in which the '
            'model explains them.',
            show_default='MNI152NLin2009aSym, which is embedded',
        ),
        _number('--resolution', click.FLOAT, "Voxel size of the model's grid in mm."),
        _number(
            '--grid-size',
            click.IntRange(8),
            "Number of voxels of the model's grid along each axis.",
            'fits the brain',
        ),
        _number(
            '--classifier-steps',
            click.IntRange(1),
            'Training steps of the network that classifies.',
        ),
        _number(
            '--simulator-steps',
            click.IntRange(1),
            'Training steps of a simulator with a free velocity; iterations of --preset ipmi2021.',
        ),
        _number('--batch-size', click.IntRange(2), 'Images per training step.'),
        Option(
            ['--devices-per-fold'],
            group=METHOD,
            type=click.IntRange(1),
            default=1,
            help='Number of GPUs that share the batches of a fold.',
        ),
        flag(
            '--sanity',
            group=METHOD,
            help='Check on the first fold that the maps disappear if the classifier or the labels '
            'are randomised. Takes as long as about two more folds.',
        ),
    ]


def _own() -> list[Option]:
    return [
        path_option(
            '--classifier-card',
            group=OWN,
            metavar='FILE',
            help='JSON file that describes the trained classifier.',
        ),
        _text(
            '--classifier-module',
            OWN,
            'MODULE:NAME',
            'Trained classifier as Python code; requires --allow-code.',
        ),
        flag(
            '--allow-code',
            group=OWN,
            levels=(PARTICIPANT, TRAIN),
            help='Allow Python code of a classifier (--classifier-module) to be imported and run.',
        ),
    ]


def _bundle() -> list[Option]:
    return [
        _text(
            '--model-name',
            BUNDLE,
            'NAME',
            'Name of the model; it is written to OUTPUT_DIR/models/NAME.',
            show_default='the value of --label',
        ),
        _text('--model-license', BUNDLE, 'TEXT', 'Licence of the model, for its model card.'),
        flag('--overwrite', group=BUNDLE, help='Replace an existing model of that name.'),
    ]
