"""The faults: what happens where, what the user sees, and the exit code.

Nothing is ever lost: after each fault, a run without it must end with exit code 0 and leave the
same derivatives, bit for bit, as a run that nothing has disturbed.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

#: Exit code of a process that SIGKILL has ended.
KILLED = -signal.SIGKILL
START = r'/{}/_0x\w+_unfinished\.json$'

INTERRUPTED = r'(?i)run the same command again'
LOST = r'The process that ran \S+ was killed'
FULL = r'(?i)disk (or the quota )?is full'


@dataclass(frozen=True)
class Row:
    """One fault.

    Parameters
    ----------
    fault : str
        What happens.
    where : str
        Step or file.
    seen : str
        Pattern of what the user sees; empty if nothing needs to be said.
    code : int
        Exit code of the run with the fault.
    """

    fault: str
    where: str
    seen: str = ''
    code: int = 0


@dataclass(frozen=True)
class Signal:
    """A signal at the start of a step.

    Parameters
    ----------
    fault : str
        Words of the table.
    action : str
        Action of the trigger.
    seen : str
        Pattern of what the user sees.
    code : int
        Exit code.
    parallel : bool
        Steps run in processes of their own, as by default.
    """

    fault: str
    action: str
    seen: str
    code: int
    parallel: bool = False

    def row(self, step: str) -> Row:
        """Return the row of a step."""
        return Row(self.fault, step, self.seen, self.code)


KILL = Signal('SIGKILL of the program', 'KILL main', '', KILLED)
TERM = Signal('SIGTERM of the program', 'TERM main', INTERRUPTED, 1)
KILL_WORKER = Signal(
    'SIGKILL of a worker, as for lack of memory', 'KILL worker', LOST, 1, parallel=True
)
TERM_WORKER = Signal('SIGTERM of a worker', 'TERM worker', 'runs again', 0, parallel=True)
KILL_BOTH = Signal(
    'SIGKILL of the program while a worker computes', 'KILL main', '', KILLED, parallel=True
)
TERM_BOTH = Signal(
    'SIGTERM of the program while a worker computes', 'TERM main', INTERRUPTED, 1, parallel=True
)


STEPS = {
    'participant': (
        'conform',
        'prepare_brain',
        'register_brain',
        'ds_brain',
        'ds_registration',
        'prepare_input',
        'measure_anatomy',
        'classify',
        'simulate',
        'counterfactual',
        'realise_native',
        'ds_explain',
        'figures',
        'report',
    ),
    'group': (
        'describe_inject100',
        'describe_remove100',
        'merge_maps',
        'write_tables',
        'score_expression',
        'report',
    ),
    'train': (
        'take_prepared',
        'training_input',
        'gather_cohort',
        'train_fold_0',
        'train_fold_1',
        'merge_results',
        'assemble_model',
    ),
}

#: Steps that never run in a worker, because they only join lists.
IN_MAIN = ('merge_maps', 'merge_results')


@dataclass(frozen=True)
class Step:
    """A step at whose start signals arrive, one in each of several runs.

    Parameters
    ----------
    level, name : str
        Analysis level, and name of the step.
    signals : tuple of Signal
        Signals; each run continues what the one before left.
    """

    level: str
    name: str
    signals: tuple[Signal, ...]


_ALONE = (KILL, TERM)
_WITH_WORKERS = (TERM_WORKER, KILL_BOTH, TERM_BOTH)
SIGNALS = (
    *(
        Step(level, name, _ALONE if name in IN_MAIN else (*_ALONE, KILL_WORKER))
        for level, names in STEPS.items()
        for name in names
    ),
    Step('participant', 'simulate', _WITH_WORKERS),
    Step('participant', 'ds_explain', _WITH_WORKERS),
    Step('group', 'describe_inject100', _WITH_WORKERS),
    Step('train', 'train_fold_0', _WITH_WORKERS),
)
#: Signals of `make test`.
QUICK_SIGNALS = (Step('group', 'describe_inject100', (KILL,)),)

#: Files before which the program is killed, one after the other, in the order in which they are
#: written.
WRITES = {
    'participant': (
        r'out/dataset_description\.json$',
        r'out/README\.md$',
        r'out/logs/CITATION\.md$',
        r'/bids_interp\.toml$',
        r'_desc-preproc_T1w\.json$',
        r'_desc-preproc_T1w\.nii\.gz$',
        r'_desc-brain_mask\.nii\.gz$',
        r'_xfm\.txt$',
        r'_velocity\.nii\.gz$',
        r'_prediction\.json$',
        r'_stats\.tsv$',
        r'_logjacobian\.nii\.gz$',
        r'\.svg$',
        r'\.html$',
        r'work/.*/_files\.json$',
    ),
    'group': (r'_logjacobian\.nii\.gz$', r'\.tsv$', r'report\.html$'),
    'train': (
        r'last\.ckpt$',
        r'models/group$',
        r'folds\.tsv$',
        r'training/group/.*\.nii\.gz$',
        r'report\.html$',
    ),
}


WAYS = ('truncated', 'emptied', 'bit flipped')


@dataclass(frozen=True)
class Damage:
    """Files that are damaged in one go, in every way, and then one run.

    Parameters
    ----------
    level : str
        Analysis level.
    folder : str
        Folder of the place.
    patterns : tuple of str
        One file is taken of each pattern.
    ways : tuple of str
        How files are damaged.
    """

    level: str
    folder: str
    patterns: tuple[str, ...]
    ways: tuple[str, ...] = WAYS


DAMAGES = (
    Damage(
        'participant',
        'out',
        (
            '**/sub-01_desc-preproc_T1w.nii.gz',
            '**/sub-01_desc-preproc_T1w.json',
            '**/sub-01_desc-brain_mask.nii.gz',
            '**/sub-01_from-T1w_to-*_xfm.txt',
            '**/sub-01_desc-inject100_T1w.nii.gz',
            '**/sub-01_desc-inject100_logjacobian.nii.gz',
            '**/sub-01_*desc-inject_velocity.nii.gz',
            '**/sub-01_desc-explain_prediction.json',
            '**/sub-01_desc-doseresponse_stats.tsv',
            '**/figures/sub-01_*.svg',
            'sub-01.html',
            'README.md',
        ),
    ),
    # A flipped bit that leaves valid JSON is not noticed: each run adds to this file.
    Damage('participant', 'out', ('dataset_description.json',), ('truncated', 'emptied')),
    Damage(
        'participant',
        'work',
        (
            '**/sub_01_wf/**/conform/result_conform.pklz',
            '**/sub_01_wf/**/classify/_inputs.pklz',
            '**/sub_01_wf/**/simulate/_node.pklz',
            '**/sub_01_wf/**/classify/_0x*.json',
            '**/sub_01_wf/**/prepare_input/_files.json',
            '**/sub_01_wf/**/realise_native/*.nii.gz',
            '**/sub_01_wf/**/counterfactual/*.tsv',
            '**/sub_01_wf/**/classify/*.json',
        ),
    ),
    Damage('train', 'out', ('models/group/*_simulator.safetensors', 'training/group/*.nii.gz',
                            'training/group/folds.tsv', 'training/group/report.html')),
    Damage('group', 'out', ('group/*/regions_subjects.tsv', 'group/*/*_logjacobian.nii.gz',
                            'group/*/report.html')),
)  # fmt: skip

#: Files of a bundle; a damaged one ends the run before it computes anything.
BUNDLE = (
    'config.json',
    'context.safetensors',
    'fold-0_classifier.safetensors',
    'fold-1_simulator.safetensors',
    'README.md',
)

#: Steps of a subject at which a disk gets full: at the start, in the middle, at the end.
STAGES = ('conform', 'simulate', 'report')
DISKS = ('out', 'work', 'tmp')


def full_disk(disk: str, step: str) -> Row:
    """Return the row of a disk that is full from the start of a step."""
    if disk == 'tmp':  # none of these steps needs temporary files
        return Row('the disk of TMPDIR is full', step)
    name = 'OUTPUT_DIR' if disk == 'out' else 'the work directory'
    return Row(f'the disk of {name} is full', step, FULL, 1)


@dataclass(frozen=True)
class Folder:
    """Fault of a folder in the middle of a run."""

    name: str
    row: Row
    action: str
    step: str = 'simulate'


FOLDERS = (
    Folder('out', Row('OUTPUT_DIR becomes read-only', 'simulate', 'Read-only', 1), 'readonly'),
    Folder('out', Row('OUTPUT_DIR is removed', 'simulate', '{}', 1), 'remove'),
    Folder('out', Row('OUTPUT_DIR is renamed', 'simulate', '{}', 1), 'move'),
    Folder('work', Row('the work directory is removed', 'simulate', '{}', 1), 'remove'),
    Folder('work', Row('the work directory becomes read-only', 'simulate', 'Read-only', 1),
           'readonly'),
)  # fmt: skip


@dataclass(frozen=True)
class Around:
    """An odd environment, in which everything works or an error says what to do.

    Parameters
    ----------
    row : Row
        The row.
    prefix : tuple of str
        Words before the command.
    variables : dict of str to str
        Variables.
    options : tuple of str
        Further options of the command.
    """

    row: Row
    prefix: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


def _shell(text: str) -> tuple[str, ...]:
    return 'sh', '-c', f'{text}; exec "$@"', 'sh'


ENVIRONMENTS = (
    Around(Row('locale C without UTF-8', 'environment'), (),
           {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}),
    Around(Row('umask 077', 'environment'), _shell('umask 077')),
    Around(Row('64 open files (`ulimit -n 64`)', 'environment'),
           ('prlimit', '--nofile=64:64')),
    Around(Row('/dev/shm of 4 kB', 'environment'),
           ('unshare', '-m', *_shell('mount -t tmpfs -o size=4k tmpfs /dev/shm'))),
    Around(Row('/dev/shm is read-only', 'environment'),
           ('unshare', '-m', *_shell('mount -t tmpfs -o ro tmpfs /dev/shm'))),
    Around(Row('HOME is not set', 'environment'), ('env', '-u', 'HOME')),
    Around(Row('HOME does not exist', 'environment'), (), {'HOME': '/nowhere'}),
    Around(Row('user id without a name', 'environment'),
           ('unshare', '--user', '--map-user=54321', 'env', '-u', 'HOME', '-u', 'USER',
            '-u', 'LOGNAME')),
)  # fmt: skip
