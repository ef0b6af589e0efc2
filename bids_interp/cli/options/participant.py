"""Participant level options of ``bids_interp``, with the spellings of fMRIPrep."""

from __future__ import annotations

from collections.abc import Iterable

import click

from bids_interp.cli.options.execution import machine_options, output_options, run_options
from bids_interp.cli.options.group import group_options
from bids_interp.cli.options.train import train_options
from bids_interp.cli.params import (
    GROUP,
    PARTICIPANT,
    TRAIN,
    FileOrName,
    NamedFolder,
    Option,
    OptionGroup,
    flag,
    path_option,
    split_commas,
)
from bids_interp.constants import SALIENCY_METHODS, SEGMENTATIONS

SELECTION = OptionGroup('Participants and sessions')
DATASET = OptionGroup('Input dataset', (PARTICIPANT, TRAIN))
PREPROCESSING = OptionGroup('Preprocessing', (PARTICIPANT, TRAIN))
MODEL = OptionGroup('Model', (PARTICIPANT, GROUP))
EXPLANATION = OptionGroup('Explanation', (PARTICIPANT,))
REGIONS = OptionGroup('Regions', (PARTICIPANT, GROUP))


def read_doses(ctx: click.Context, param: click.Parameter, value: Iterable[str]) -> tuple:
    """Return doses as numbers."""
    try:
        return tuple(float(part) for part in split_commas(ctx, param, value))
    except ValueError as error:
        raise click.BadParameter(f'{error}; doses are numbers in (0, 1].') from error


def selection_options() -> list[Option]:
    """Return the options that choose images."""
    return [
        Option(
            ['--participant-label'],
            aliases=[
                '--participant_label',
                '--subject-label',
                '--participant-labels',
                '--participant_labels',
            ],
            group=SELECTION,
            is_list=True,
            metavar='LABEL...',
            callback=split_commas,
            show_default='all',
            help='Participants, with or without sub-, separated by spaces or commas.',
        ),
        Option(
            ['--session-label'],
            aliases=['--session_label', '--session-id'],
            group=SELECTION,
            is_list=True,
            metavar='LABEL...',
            callback=split_commas,
            show_default='all',
            help='Sessions, with or without ses-, separated by spaces or commas.',
        ),
    ]


def dataset_options() -> list[Option]:
    """Return the options on the input dataset."""
    return [
        Option(
            ['--fail-on-missing/--skip-missing'],
            group=DATASET,
            default=False,
            show_default='skip',
            help='Stop if a requested participant is missing. By default the others are '
            'processed and the exit code is 1.',
        ),
        path_option(
            '--bids-filter-file',
            aliases=['--bids_filter_file'],
            group=DATASET,
            metavar='FILE',
            help='JSON file with pybids filters that select the T1w images, such as '
            '{"t1w": {"acquisition": "mprage", "run": null}}. null selects images without the '
            'entity, "*" images with any value of it.',
        ),
        path_option(
            '--bids-database-dir',
            aliases=['--bids_database_dir'],
            group=DATASET,
            metavar='DIR',
            help='Folder that keeps the index of the input dataset for later runs.',
        ),
        flag(
            '--skip-bids-validation',
            aliases=['--skip_bids_validation'],
            group=DATASET,
            help='Do not run the BIDS validator.',
        ),
        Option(
            ['-d', '--derivatives'],
            group=DATASET,
            is_list=True,
            type=NamedFolder(),
            metavar='[NAME=]PATH...',
            show_default='none',
            help='Derivatives of fMRIPrep or sMRIPrep, whose preprocessed T1w images and brain '
            'masks are used where they exist, or brains found by FreeSurfer, FastSurfer, SynthSeg, '
            'SynthStrip, HD-BET, CAT12 or SPM.',
        ),
    ]


def preprocessing_options() -> list[Option]:
    """Return the options on brain extraction and registration."""
    return [
        Option(
            ['--skull-strip-t1w'],
            aliases=['--skull_strip_t1w', '--skull-strip-mode'],
            group=PREPROCESSING,
            type=click.Choice(['auto', 'force', 'skip']),
            default='auto',
            help='Brain extraction: auto skips images that are already skull-stripped, force '
            'extracts always, skip never.',
        ),
        Option(
            ['--template'],
            aliases=['--skull-strip-template', '--skull_strip_template'],
            group=PREPROCESSING,
            metavar='NAME',
            show_default='the first of OASIS30ANTs, MNI152NLin2009cAsym and MNI152NLin6Asym in '
            'TEMPLATEFLOW_HOME, else the embedded MNI152NLin2009aSym',
            help='TemplateFlow name of the whole-head template for brain extraction.',
        ),
        flag(
            '--fast',
            aliases=['--sloppy'],
            group=PREPROCESSING,
            help='Use faster, less accurate registrations, for trying things out. Results are '
            'not exactly reproducible.',
        ),
    ]


def model_options() -> list[Option]:
    """Return the options that choose the model."""
    return [
        path_option(
            '--model',
            group=MODEL,
            metavar='DIR',
            show_default='the only model in OUTPUT_DIR/models, else $BIDS_INTERP_MODEL, '
            'else the demonstration model',
            help='Model bundle.',
        ),
        Option(
            ['--contrast'],
            group=MODEL,
            metavar='A-B',
            show_default='the first',
            help='Pair of classes to explain, for a model of several classes. '
            '`bids_interp_tools model show DIR` lists them.',
        ),
    ]


def explanation_options() -> list[Option]:
    """Return the options on the outputs of each image."""
    return [
        Option(
            ['--dose', 'doses'],
            aliases=['--doses'],
            group=EXPLANATION,
            is_list=True,
            metavar='NUMBER...',
            callback=read_doses,
            default=('1.0',),
            help='Doses in (0, 1] of the simulated images. At each dose the pattern is injected '
            'and removed.',
        ),
        Option(
            ['--output-spaces'],
            aliases=['--output_spaces'],
            group=EXPLANATION,
            is_list=True,
            metavar='SPACE...',
            callback=split_commas,
            default=('T1w', 'template'),
            help='Spaces of the simulated images and maps: T1w (native space), template (the '
            'template of the model at 1 mm), or other templates of TemplateFlow by name, such as '
            'MNI152NLin6Asym.',
        ),
        Option(
            ['--saliency'],
            group=EXPLANATION,
            is_list=True,
            metavar='METHOD...',
            callback=split_commas,
            show_default='none',
            help='Also write saliency maps of the classifier: all, or some of '
            f'{", ".join(SALIENCY_METHODS)}. Methods that do not apply to the model are '
            'skipped, with a note.',
        ),
        flag(
            '--remeasure',
            group=EXPLANATION,
            help='Measure the simulated images at dose 1 again, by a registration that does not '
            'know the model (SyN), and report how far its regional volume changes agree with the '
            'maps.',
        ),
    ]


def region_options() -> list[Option]:
    """Return the options on the regions of tables and reports."""
    return [
        Option(
            ['--atlas'],
            group=REGIONS,
            type=FileOrName(),
            show_default='the embedded coarse regions',
            help='Atlas of the regions in any MNI space: [TEMPLATE:]FILE of a label image, or '
            '[TEMPLATE:]NAME of an atlas in TemplateFlow. At the participant level also '
            f'{", ".join(SEGMENTATIONS)}: the regions of each scan in --derivatives.',
        ),
        path_option(
            '--atlas-labels',
            group=REGIONS,
            metavar='FILE',
            help='TSV table with the columns index and name for the label image of --atlas.',
        ),
    ]


def all_options() -> list[Option]:
    """Return every option of ``bids_interp``."""
    return [
        *selection_options(),
        *dataset_options(),
        *preprocessing_options(),
        *model_options(),
        *explanation_options(),
        *region_options(),
        *group_options(),
        *train_options(),
        *machine_options(),
        *run_options(),
        *output_options(),
    ]


def shared_options(*names: str) -> list[Option]:
    """Return the options of ``bids_interp`` that a tool shares.

    Parameters
    ----------
    *names : str
        Names of the values, such as ``participant_label``.
    """
    found = {option.name: option for option in all_options()}
    return [found[name] for name in names]
