"""Settings of a run: one frozen dataclass, passed explicitly and saved as TOML."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bids_interp.constants import SALIENCY_METHODS, SEGMENTATIONS
from bids_interp.errors import UsageError
from bids_interp.settings.group import GroupChoices, check_group
from bids_interp.settings.toml import read_toml, write_toml
from bids_interp.settings.train import TrainChoices, check_target_options, check_train

LEVELS = ('participant', 'group', 'train')
SKULL_STRIP = ('auto', 'force', 'skip')
NATIVE_SPACE = 'T1w'
TEMPLATE_SPACE = 'template'

#: Name of a template or space, with a cohort or resolution after a colon.
_SPACE = re.compile(r'[\w+-]+(:[\w+-]+)*', re.ASCII)

_PATHS = (
    'bids_dir',
    'output_dir',
    'bids_filter_file',
    'bids_database_dir',
    'model',
    'work_dir',
    'use_plugin',
    'labels',
    'classifier_card',
    'atlas_labels',
)
_TYPES: dict[str, tuple[type, ...]] = {
    'bool': (bool,),
    'int': (int,),
    'int | None': (int, type(None)),
    'float | None': (int, float, type(None)),
    'str': (str,),
    'str | None': (str, type(None)),
}
_LISTS = (
    'participant_label',
    'session_label',
    'output_spaces',
    'doses',
    'saliency',
    'classes',
    'covariates',
    'voxelwise',
    'null_models',
)


@dataclass(frozen=True)
class Settings(TrainChoices, GroupChoices):
    """All settings of a run.

    Parameters
    ----------
    bids_dir, output_dir : Path
        Input dataset and folder of the derivatives.
    analysis_level : {'participant', 'group', 'train'}
        Analysis level.
    participant_label, session_label : tuple of str
        Labels without ``sub-`` and ``ses-``; empty means all.
    fail_on_missing : bool
        Stop before computing if a requested participant is missing.
    bids_filter_file, bids_database_dir : Path, optional
        JSON file with pybids filters, and folder of the index of the dataset.
    skip_bids_validation : bool
        Do not run the BIDS validator.
    derivatives : tuple of (str, Path)
        Names and folders of derivatives with preprocessed T1w images and brain masks.
    model : Path, optional
        Model bundle; :func:`bids_interp.models.bundle.choice.choose_bundle` gives the order.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    skull_strip_t1w : {'auto', 'force', 'skip'}
        Whether to extract the brain; ``auto`` skips images that are already skull-stripped.
    template : str, optional
        TemplateFlow name of the whole-head template for brain extraction.
    output_spaces : tuple of str
        ``T1w`` (native), ``template`` (the model's template at 1 mm, also by its own name), or
        other templates of TemplateFlow, at 1 mm.
    doses : tuple of float
        Doses in (0, 1] at which images are written; each is injected and removed.
    saliency : tuple of str
        Saliency maps of the classifier to write as well, of
        :data:`bids_interp.constants.SALIENCY_METHODS`; ``all`` for every one.
    remeasure : bool
        Measure the simulated images at dose 1 by an independent registration as well.
    work_dir : Path, optional
        Folder of intermediate results; ``work`` in the current folder if not given.
    clean_on_success : bool
        Delete the intermediate results of each image as soon as it is done.
    nprocs, omp_nthreads : int, optional
        CPUs, and threads per process; taken from the limits of the machine if not given.
    mem_gb : float, optional
        Memory for all processes together, in GB of 10^9 bytes.
    random_seed : int
        Random seed.
    offline : bool
        Do not use the network; only templates on this machine are used.
    fast : bool
        Trade accuracy and reproducibility of the registration for time.
    contrast : str, optional
        Pair of classes to explain, for a model of several classes.
    """

    bids_dir: Path
    output_dir: Path
    analysis_level: str = 'participant'
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    fail_on_missing: bool = False
    bids_filter_file: Path | None = None
    bids_database_dir: Path | None = None
    skip_bids_validation: bool = False
    derivatives: tuple[tuple[str, Path], ...] = ()
    model: Path | None = None
    contrast: str | None = None
    device: str = 'auto'
    skull_strip_t1w: str = 'auto'
    template: str | None = None
    output_spaces: tuple[str, ...] = (NATIVE_SPACE, TEMPLATE_SPACE)
    doses: tuple[float, ...] = (1.0,)
    saliency: tuple[str, ...] = ()
    remeasure: bool = False
    nprocs: int | None = None
    omp_nthreads: int | None = None
    mem_gb: float | None = None
    work_dir: Path | None = None
    clean_workdir: bool = False
    clean_on_success: bool = False
    use_plugin: Path | None = None
    random_seed: int = 20210628
    offline: bool = False
    fast: bool = False
    stop_on_first_crash: bool = False
    dry_run: bool = False
    write_graph: bool = False
    reports_only: bool = False
    boilerplate_only: bool = False
    md_only_boilerplate: bool = False
    resource_monitor: bool = False
    verbose: int = 0

    def __post_init__(self) -> None:
        for name in _PATHS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _path(name, value))
        for name in _LISTS:
            value = getattr(self, name)
            if isinstance(value, (str, bytes)) or not hasattr(value, '__iter__'):
                raise UsageError(f'The setting {name} must be a list, not {value!r}.')
            object.__setattr__(self, name, tuple(value))
        object.__setattr__(self, 'derivatives', _named_paths(self.derivatives))
        _strip_prefix(self, 'participant_label', 'sub-')
        _strip_prefix(self, 'session_label', 'ses-')
        _check(self)

    def replace(self, **changes: Any) -> Settings:
        """Return a checked copy with changed fields."""
        return replace(self, **changes)

    def to_toml(self) -> str:
        """Return the settings as TOML, without those that are not set.

        Examples
        --------
        >>> Settings('/bids', '/out', doses=(0.5, 1)).to_toml().splitlines()[:2]
        ['bids_dir = "/bids"', 'output_dir = "/out"']
        """
        order = sorted(fields(self), key=lambda field: bool(field.kw_only))
        values = {field.name: getattr(self, field.name) for field in order}
        return write_toml(values, values.pop('derivatives'))

    @classmethod
    def from_toml(cls, text: str, **changes: Any) -> Settings:
        """Return the settings saved by :meth:`to_toml`; `changes` take precedence.

        Examples
        --------
        >>> text = Settings('/bids', '/out', derivatives=(('prep', '/prep'),)).to_toml()
        >>> Settings.from_toml(text, fast=True).fast
        True
        """
        return cls(**{**parse_toml(text), **changes})


def parse_toml(text: str, source: str = 'the settings') -> dict[str, Any]:
    """Return the settings in a TOML text.

    Raises
    ------
    UsageError
        If the text is not TOML, or a key is not a setting.
    """
    return read_toml(text, [field.name for field in fields(Settings)], source)


def _path(name: str, value: Any) -> Path:
    """Return an absolute path; ``~`` is the home folder."""
    if isinstance(value, str | Path) and '\0' not in str(value):
        try:
            return Path(value).expanduser().absolute()
        except RuntimeError as error:
            raise UsageError(f'{name}: {value} cannot be found: {error}') from error
    raise UsageError(f'The setting {name} must be a path, not {value!r}.')


def _named_paths(value: Any) -> tuple[tuple[str, Path], ...]:
    """Return names and absolute paths from a mapping or from pairs."""
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list | tuple) or any(
        isinstance(pair, str) or len(pair) != 2 for pair in pairs
    ):
        raise UsageError(f'The setting derivatives must be names with paths, not {value!r}.')
    return tuple((str(name), _path('derivatives', path)) for name, path in pairs)


def _strip_prefix(settings: Settings, name: str, prefix: str) -> None:
    labels = (str(label).removeprefix(prefix) for label in getattr(settings, name))
    object.__setattr__(settings, name, tuple(dict.fromkeys(labels)))


def _check_types(settings: Settings) -> None:
    for field in fields(settings):
        value, kinds = getattr(settings, field.name), _TYPES.get(str(field.type))
        if kinds is None:
            continue
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise UsageError(f'The setting {field.name} must be {field.type}, not {value!r}.')


def _check(settings: Settings) -> None:
    """Refuse impossible values."""
    _check_types(settings)
    check_train(settings)
    check_group(settings)
    if settings.analysis_level == 'train':
        check_target_options(settings)
    _check_choice('analysis level', settings.analysis_level, LEVELS)
    _check_choice('--skull-strip-t1w', settings.skull_strip_t1w, SKULL_STRIP)
    for option, labels in (
        ('--participant-label', settings.participant_label),
        ('--session-label', settings.session_label),
    ):
        for label in labels:
            if not label.isalnum():
                raise UsageError(f'{option} {label!r} may contain only letters and digits.')
    if not settings.output_spaces:
        raise UsageError('--output-spaces requires at least one space.')
    for option, spaces in (
        ('--output-spaces', settings.output_spaces),
        ('--template', (settings.template,) if settings.template else ()),
    ):
        for space in spaces:
            if not _SPACE.fullmatch(str(space)):
                raise UsageError(f'{option} {space!r} is not the name of a space.')
    if settings.atlas in SEGMENTATIONS and settings.analysis_level == 'group':
        raise UsageError(
            f'--atlas {settings.atlas} differs between scans, so the group level cannot use it.',
            'Give an atlas of a template.',
        )
    if not settings.doses:
        raise UsageError('--dose requires at least one number.')
    for dose in settings.doses:
        if isinstance(dose, bool) or not isinstance(dose, (int, float)) or not 0 < dose <= 1:
            raise UsageError(
                f'--dose must be a number in (0, 1], not {dose!r}. At each dose the pattern is '
                'injected and removed.'
            )
        if abs(dose * 100 - round(dose * 100)) > 1e-6:
            raise UsageError(
                f'--dose must be a multiple of 0.01, not {dose}, because file names contain it.'
            )
    object.__setattr__(settings, 'doses', tuple(sorted({float(d) for d in settings.doses})))
    object.__setattr__(settings, 'saliency', _saliency_methods(settings.saliency))
    kind, _, index = settings.device.partition(':')
    if kind not in ('auto', 'cpu', 'cuda') or (':' in settings.device and kind != 'cuda'):
        raise UsageError(f'--device must be auto, cpu, cuda or cuda:N, not {settings.device!r}.')
    if ':' in settings.device and not index.isdigit():
        raise UsageError(f'--device cuda:N requires a number, not {settings.device!r}.')
    for name in ('nprocs', 'omp_nthreads', 'mem_gb'):
        value = getattr(settings, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f'--{name.replace("_", "-")} must be positive, not {value}.')
    if not 0 <= settings.random_seed < 2**32:
        raise UsageError(f'--random-seed must be in [0, 2^32), not {settings.random_seed}.')


def _saliency_methods(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the methods in a fixed order; capitals and hyphens do not matter."""
    names = [str(name).lower().replace('-', '').replace('_', '') for name in wanted]
    for name, given in zip(names, wanted, strict=True):
        if name not in (*SALIENCY_METHODS, 'all'):
            close = get_close_matches(name, SALIENCY_METHODS, n=1)
            hint = f' Did you mean {close[0]}?' if close else ''
            methods = ', '.join(SALIENCY_METHODS)
            raise UsageError(
                f'--saliency {given!r} is unknown.{hint} The methods are {methods}, or all.'
            )
    return tuple(name for name in SALIENCY_METHODS if name in names or 'all' in names)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f'{name} must be one of {", ".join(choices)}, not {value!r}.')
