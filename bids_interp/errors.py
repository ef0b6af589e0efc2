"""Exceptions of bids_interp: each class knows its exit code and says what the user can do."""

from __future__ import annotations

from typing import Any


class BidsInterpError(Exception):
    """Base of every error that the user can do something about.

    Parameters
    ----------
    message : str
        What is wrong; names the file where there is one.
    advice : str, optional
        What the user can do; the class's own advice where it is not given.

    Attributes
    ----------
    exit_code : int
        Exit code of the command when this error ends it.
    """

    exit_code: int = 1
    default_advice: str = ''

    def __init__(self, message: str, advice: str | None = None) -> None:
        self.message = message
        self.advice = self.default_advice if advice is None else advice
        super().__init__(message)

    def __str__(self) -> str:
        return f'{self.message} {self.advice}'.strip()

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        # Errors cross process borders with nipype's workers.
        return type(self), (self.message, self.advice)


class UsageError(BidsInterpError, ValueError):
    """The command line or a configuration file asks for something impossible."""

    exit_code = 2
    default_advice = 'See `bids_interp --help`.'


class NothingToDoError(BidsInterpError):
    """The selection is valid but empty."""

    exit_code = 3
    default_advice = 'Check --participant-label, --session-label and --bids-filter-file.'


class InputDatasetError(BidsInterpError):
    """The input dataset cannot be used."""

    exit_code = 4
    default_advice = 'Check that the first argument is the root of a BIDS dataset.'


class OutputError(BidsInterpError, OSError):
    """The output or work directory cannot be written."""

    exit_code = 2
    default_advice = 'Give a directory that you may write to and that has enough free space.'


class ImageError(InputDatasetError, ValueError):
    """One image cannot be used; other subjects go on."""

    exit_code = 1
    default_advice = 'Repair or leave out this file.'


class TemplateError(BidsInterpError):
    """A template cannot be had."""

    exit_code = 2
    default_advice = (
        'Fetch the template once with a network connection, set TEMPLATEFLOW_HOME, '
        'or leave out --template to use the embedded one.'
    )


class DeviceError(BidsInterpError):
    """The device asked for is not there."""

    exit_code = 2
    default_advice = 'Use --device auto or --device cpu.'


class ModelError(BidsInterpError):
    """A model bundle is missing, damaged or does not fit."""

    exit_code = 5
    default_advice = (
        'Check --model; `bids_interp_tools model verify DIR` says what is wrong with it.'
    )


class TrainingError(BidsInterpError):
    """Training cannot be done, or broke."""

    exit_code = 1


class WorkerLostError(BidsInterpError):
    """A worker process was killed from outside."""

    exit_code = 1
    default_advice = (
        'This is usually the memory limit: lower --nprocs, raise --mem or the limit of the job, '
        'and run the same command again; finished work is kept.'
    )


class SchedulerError(BidsInterpError):
    """No workers can be had: a scheduler cannot be reached, or refuses the jobs."""

    exit_code = 1
    default_advice = (
        'Change the options in the --use-plugin file to what the cluster allows, and run the same '
        'command again; finished work is kept.'
    )
