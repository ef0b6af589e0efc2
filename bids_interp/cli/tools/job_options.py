"""Job options: the options of ``bids_interp`` in cluster jobs, checked before submission."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bids_interp.cli.app import command, given_options, read_settings
from bids_interp.cli.params import FileOrName, NamedFolder, Option, absolute
from bids_interp.errors import UsageError
from bids_interp.settings import Settings

# Options that the jobs set themselves, and the corresponding options of the tool.
_OWNED = {
    'participant_label': '--participant-label before the --',
    'nprocs': '--cpus',
    'mem_gb': '--mem',
    'mem_mb': '--mem',
    'mem_in_gb': '--mem',
    'work_dir': '--work-dir before the --',
}
_PATH_TYPES = (click.Path, NamedFolder, FileOrName)


@dataclass(frozen=True)
class AppOptions:
    """Options for the jobs of one level.

    Parameters
    ----------
    words : tuple of str
        The options with absolute paths.
    settings : Settings
        The settings they result in.
    read_only, writable : tuple of Path
        Files and folders in the options.
    """

    words: tuple[str, ...]
    settings: Settings
    read_only: tuple[Path, ...]
    writable: tuple[Path, ...]


def read_app_options(
    words: Sequence[str],
    bids_dir: Path,
    output_dir: Path,
    level: str,
    participant_label: Sequence[str] = (),
) -> AppOptions:
    """Parse options of ``bids_interp`` and find the paths in them.

    Parameters
    ----------
    words : sequence of str
        The options, without the folders and the level.
    bids_dir, output_dir : Path
        Input and output.
    level : {'participant', 'group', 'train'}
        Analysis level.
    participant_label : sequence of str
        Participants, for the settings only; every task processes one.

    Raises
    ------
    UsageError
        If an option is wrong, is set by the jobs, or names a path that does not exist.
    """
    try:
        context = command.make_context(
            'bids_interp', [str(bids_dir), str(output_dir), level, *words]
        )
    except click.exceptions.Exit as error:
        raise UsageError('--help and --version are not options of a job.') from error
    except click.UsageError as error:
        raise UsageError(f'Options of bids_interp {level}: {error.format_message()}') from error
    given = given_options(context)
    for option in given:
        if option.name in _OWNED:
            raise UsageError(
                f'{option.flag_name} is set by the jobs.', f'Use {_OWNED[str(option.name)]}.'
            )
    settings = read_settings(context)
    if participant_label:
        settings = settings.replace(participant_label=tuple(participant_label))
    kept = tuple(word for option, value in given.items() for word in _words(option, value))
    read_only, writable = _paths(given, settings)
    return AppOptions(kept, settings, read_only, writable)


def _words(option: Option, value: Any) -> Iterator[str]:
    """Yield an option and its values, with absolute paths."""
    if option.count:
        yield f'-{"v" * value}'
    elif option.is_flag:
        yield option.flag_name if value else option.secondary_opts[0]
    else:
        for item in value if option.multiple else [value]:
            yield option.flag_name
            yield _text(option, item)


def _text(option: Option, value: Any) -> str:
    if isinstance(option.type, NamedFolder):
        return f'{value[0]}={absolute(value[1])}'
    if isinstance(value, float):
        return str(value).removesuffix('.0')
    path = _path(option, value)
    if path is None:
        return str(value)
    is_prefixed = isinstance(option.type, FileOrName) and not absolute(value).exists()
    return f'{value.partition(":")[0]}:{path}' if is_prefixed else str(path)


def _path(option: Option, value: Any) -> Path | None:
    """Return the absolute path in a value; None if the value is not a path."""
    if isinstance(option.type, NamedFolder):
        return absolute(value[1])
    if isinstance(option.type, click.Path):
        return absolute(value)
    if isinstance(option.type, FileOrName):
        # A file may follow the name of its template: TEMPLATE:FILE.
        texts = (text for text in (value, value.partition(':')[2]) if text)
        return next((absolute(text) for text in texts if absolute(text).exists()), None)
    return None


def _paths(
    given: dict[Option, Any], settings: Settings
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the paths to bind into a container: those in the settings, and the settings file."""
    read_only: list[Path] = []
    writable: list[Path] = []
    options = [param for param in command.params if isinstance(param, Option)]
    for option in options:
        value = getattr(settings, str(option.name), given.get(option))
        if option.name in _OWNED or value is None or not isinstance(option.type, _PATH_TYPES):
            continue
        for item in value if option.multiple else [value]:
            path = _path(option, item)
            if path is None:
                continue
            if option.name == 'bids_database_dir':
                writable.append(path)
            elif path.exists():
                read_only.append(path)
                # The table of an atlas lies beside it.
                table = path.with_name(f'{path.name.split(".", 1)[0]}.tsv')
                if isinstance(option.type, FileOrName) and table.is_file():
                    read_only.append(table)
            elif settings.output_dir not in path.parents:  # an earlier job may create it
                raise UsageError(f'{option.flag_name} {path} does not exist.', 'Check the path.')
    return tuple(read_only), tuple(writable)
