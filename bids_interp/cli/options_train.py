"""The options of ``bids_interp`` for the ``train`` level."""

from __future__ import annotations

import click

from bids_interp.cli.params import Option, flag, path_option
from bids_interp.settings_train import CAPACITIES, PRESETS

DATA = 'Training: data'
METHOD = 'Training: method'
OWN = 'Training: a classifier of your own'


def _number(name: str, kind: click.ParamType, help_text: str, shown: str) -> Option:
    return Option([name], group=METHOD, type=kind, show_default=shown, help=help_text)


def _text(name: str, group: str, metavar: str, help_text: str, shown: str | bool = False) -> Option:
    return Option([name], group=group, metavar=metavar, show_default=shown, help=help_text)


def _words(name: str, help_text: str) -> Option:
    return Option([name], group=DATA, is_list=True, metavar='NAME...', help=help_text)


def training() -> list[Option]:
    """Return the options of the ``train`` level."""
    return [*_data(), *_method(), *_own()]


def _data() -> list[Option]:
    return [
        _text('--label', DATA, 'COLUMN', 'Column of participants.tsv (or sessions.tsv) to learn.'),
        _text('--positive', DATA, 'VALUE', 'Value of the positive class: what is injected.'),
        _text(
            '--negative',
            DATA,
            'VALUE',
            'Value of the negative class.',
            'the other value, where there are just two',
        ),
        _words('--classes', 'Values of three or more classes, the reference first.'),
        flag('--regression', group=DATA, help='The label is a number, such as a score.'),
        path_option(
            '--labels',
            group=DATA,
            metavar='FILE',
            help='Table (TSV with participant_id, and session_id where labels differ between '
            'sessions) to take in place of those of the dataset.',
        ),
        _words('--covariates', 'Columns that folds are balanced by; reported as confounds.'),
        _text(
            '--family',
            DATA,
            'COLUMN',
            'Column of who belongs together (siblings, images made of one brain): never on two '
            'sides of a fold.',
            'the participant',
        ),
        flag('--allow-unlabelled', group=DATA, help='Leave out images without a label.'),
    ]


def _method() -> list[Option]:
    return [
        Option(
            ['--preset'],
            group=METHOD,
            type=click.Choice(PRESETS),
            default='default',
            help='default: 3 mm, 5 folds. fast: 4 mm, 3 folds, one change for all subjects. '
            'ipmi2021: the published method, for comparison.',
        ),
        Option(
            ['--capacity'],
            group=METHOD,
            type=click.Choice(CAPACITIES),
            show_default='of the preset',
            help='Simulator: one change for all (template), or with a share of each subject.',
        ),
        _number('--folds', click.IntRange(2), 'Folds of the cross-validation.', 'of the preset'),
        _number('--members', click.IntRange(1), 'Classifiers of each fold.', '1'),
        _number(
            '--resolution', click.FLOAT, "Voxel size of the model's grid, mm.", 'of the preset'
        ),
        _number('--grid-size', click.IntRange(8), 'Voxels along each axis.', 'as the brain needs'),
        _number(
            '--classifier-steps', click.IntRange(1), 'Steps of the classifier.', 'of the preset'
        ),
        _number('--simulator-steps', click.IntRange(1), 'Steps of the simulator.', 'of the preset'),
        _number('--batch-size', click.IntRange(2), 'Images a step.', 'of the preset'),
        Option(
            ['--devices-per-fold'],
            group=METHOD,
            type=click.IntRange(1),
            default=1,
            help='GPUs that share each batch of a fold.',
        ),
        _text(
            '--model-name', METHOD, 'NAME', 'Folder of the model below OUTPUT_DIR/models.', 'label'
        ),
        flag(
            '--sanity',
            group=METHOD,
            help='Check on the first fold that maps vanish with the classifier and the labels: '
            'about as long as two more folds.',
        ),
        _text('--model-license', METHOD, 'TEXT', 'Licence of the model, for its card.'),
        flag('--overwrite', group=METHOD, help='Replace a model of that name.'),
    ]


def _own() -> list[Option]:
    return [
        _text(
            '--classifier',
            OWN,
            'NAME|FILE',
            'Architecture (robust, morphometric, sfcn, ipmi2021), or a trained classifier: a .pt2 '
            'of torch.export, or .safetensors of an architecture. Then only simulators are '
            'trained.',
            'robust',
        ),
        path_option('--classifier-card', group=OWN, metavar='FILE', help='JSON that describes it.'),
        _text(
            '--classifier-module',
            OWN,
            'MODULE:NAME',
            'Python code of a trained classifier; needs --allow-code.',
        ),
        flag('--allow-code', group=OWN, help='Import and run the code of --classifier-module.'),
    ]
