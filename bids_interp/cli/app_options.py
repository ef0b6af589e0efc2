"""Options of ``bids_interp`` that a job is to run with: checked now, not by a thousand tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bids_interp.cli.argv import normalise
from bids_interp.cli.main import command, settings_of
from bids_interp.cli.options import list_names, read_derivatives, value_names
from bids_interp.cli.params import Option
from bids_interp.errors import UsageError
from bids_interp.settings import LEVELS, Settings, parse_toml

# What the jobs set themselves, and how it is asked for.
_OWNED = {
    'participant_label': '--participant-label before the --',
    'nprocs': '--cpus',
    'mem_gb': '--mem',
    'mem_mb': '--mem',
    'mem_in_gb': '--mem',
    'work_dir': '--work-dir before the --',
}
# Options whose values are paths, though they are not declared as such; the last two may be names.
_PATHS = ('derivatives', 'null_models')
_PERHAPS = ('atlas', 'classifier')
_CONFIG_PATHS = (
    'bids_filter_file', 'bids_database_dir', 'model', 'labels', 'classifier_card', 'atlas_labels',
    'use_plugin',
)  # fmt: skip


@dataclass(frozen=True)
class AppOptions:
    """Options for the jobs of one level.

    Parameters
    ----------
    words : tuple of str
        With absolute paths.
    settings : Settings
        What they mean.
    read_only, writable : tuple of Path
        Files and folders that they name.
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
    """Check options with the command line of ``bids_interp`` and find the paths in them.

    Parameters
    ----------
    words : sequence of str
        The options, without the folders and the level.
    bids_dir, output_dir : Path
        The folders.
    level : {'participant', 'group', 'train'}
        The level.
    participant_label : sequence of str
        Participants, for the settings alone: every task gets its own.

    Raises
    ------
    UsageError
        If one is wrong, is set by the jobs, or names a path that is not there.
    """
    options = [param for param in command.params if isinstance(param, click.Option)]
    ordered = normalise(
        [str(bids_dir), str(output_dir), level, *words],
        list_names(option for option in options if isinstance(option, Option)),
        value_names(options, lambda option: getattr(option, 'is_list', False)),
        LEVELS,
    )
    try:
        context = command.make_context('bids_interp', list(ordered))
    except click.exceptions.Exit as error:
        raise UsageError('--help and --version are no options for a job.') from error
    except click.UsageError as error:
        raise UsageError(
            f'Options of bids_interp {level}: {error.format_message()}',
            'See `bids_interp --help`.',
        ) from error
    settings = settings_of(context, context.params)
    if participant_label:
        settings = settings.replace(participant_label=tuple(participant_label))
    paths = _Paths(settings.output_dir)
    if '--' in ordered:
        ordered = ordered[: ordered.index('--')]
    kept = tuple(_rewrite(iter(ordered), options, paths))
    return AppOptions(kept, settings, tuple(paths.read_only), tuple(paths.writable))


class _Paths:
    """Collects what a container must see."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir
        self.read_only: list[Path] = []
        self.writable: list[Path] = []

    def add(self, name: str, option: str, text: str) -> str:
        """Return a path as an absolute one, and note it."""
        path = Path(text).expanduser().absolute()
        if name == 'bids_database_dir':
            self.writable.append(path)
        elif path.exists():
            self.read_only.append(path)
        elif self.output_dir not in path.parents:  # a job before may make what is there
            raise UsageError(f'{option} {path} is not there.', 'Check the path.')
        return str(path)


def _rewrite(words: Iterator[str], options: Sequence[click.Option], paths: _Paths) -> Iterator[str]:
    """Yield the words with absolute paths."""
    by_name = {name: o for o in options for name in (*o.opts, *o.secondary_opts)}
    for word in words:
        name, equals, value = word.partition('=') if word.startswith('--') else (word, '', '')
        option = by_name.get(name)
        yield name
        if option is None and set(name) == {'-', 'v'}:
            continue  # -vv
        if option is None:
            raise UsageError(
                f'Options of bids_interp: write {word!r} in full, such as --derivatives PATH.'
            )
        if option.name in _OWNED:
            raise UsageError(f'{name} is set by the jobs.', f'Use {_OWNED[option.name]}.')
        if option.is_flag or option.count:
            continue
        if not equals:
            value = next(words)
        yield _absolute(option, name, value, paths)


def _absolute(option: click.Option, name: str, value: str, paths: _Paths) -> str:
    kind = str(option.name)
    if kind == 'derivatives':
        ((label, path),) = read_derivatives(None, option, [value])  # type: ignore[arg-type]
        return f'{label}={paths.add(kind, name, path)}'
    if kind == 'config_file':
        _read_config(Path(value).expanduser(), paths)
    is_path = isinstance(option.type, click.Path) or kind in _PATHS
    if is_path or (kind in _PERHAPS and Path(value).expanduser().exists()):
        return paths.add(kind, name, value)
    return value


def _read_config(path: Path, paths: _Paths) -> None:
    """Note the paths in a settings file; they are absolute already."""
    try:
        kept = parse_toml(path.read_text(encoding='utf-8'), f'--config-file {path}')
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f'--config-file {path} cannot be read: {error}.') from error
    for key in _CONFIG_PATHS:
        if key in kept:
            paths.add(key, f'{key} of {path}', kept[key])
    for folder in (*kept.get('derivatives', {}).values(), *kept.get('null_models', ())):
        paths.add('derivatives', f'a folder of {path}', folder)
