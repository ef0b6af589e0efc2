"""The command line makes the right settings, and says what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bids_interp.cli import main as cli
from bids_interp.cli.options import all_options
from bids_interp.settings import Settings

PLACES = ['/bids', '/out', 'participant']


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """Call the command line; return exit code, words, and the settings that the runner got."""
    got: list[Settings] = []

    def runner(settings: Settings) -> int:
        got.append(settings)
        return 0

    monkeypatch.setattr(cli, '_runner', lambda level: runner)

    def call(*words: str):
        got.clear()

        def invoke() -> None:
            cli.main(list(words))

        from click import Command

        result = CliRunner().invoke(Command('x', callback=invoke), [])
        return result.exit_code, result.output, got[0] if got else None

    return call


def test_defaults(run) -> None:
    code, _, settings = run(*PLACES)
    assert code == 0
    assert settings == Settings('/bids', '/out')


@pytest.mark.parametrize(
    'spelling',
    ['--participant-label', '--participant_label', '--subject-label', '--participant-labels'],
)
@pytest.mark.parametrize('labels', [['sub-01', '02'], ['01,02'], ['sub-01,sub-02']])
def test_participants(run, spelling: str, labels: list[str]) -> None:
    for words in ([*PLACES, spelling, *labels], [spelling, *labels, *PLACES]):
        code, output, settings = run(*words)
        assert code == 0, output
        assert settings.participant_label == ('01', '02')


@pytest.mark.parametrize(
    ('words', 'field', 'value'),
    [
        (['--session-id', 'ses-a', 'b'], 'session_label', ('a', 'b')),
        (['--skip_bids_validation'], 'skip_bids_validation', True),
        (['--nthreads', '3'], 'nprocs', 3),
        (['--n_cpus', '3'], 'nprocs', 3),
        (['--ncpus', '3'], 'nprocs', 3),
        (['--omp-nthreads', '2'], 'omp_nthreads', 2),
        (['--mem', '8GB'], 'mem_gb', 8.0),
        (['--mem', '8000mb'], 'mem_gb', 8.0),
        (['--mem_mb', '8000'], 'mem_gb', 8.0),
        (['--mem-gb', '8'], 'mem_gb', 8.0),
        (['--nipype-plugin-file', '/p.yml'], 'use_plugin', Path('/p.yml')),
        (['-w', '/w'], 'work_dir', Path('/w')),
        (['--output-spaces', 'T1w'], 'output_spaces', ('T1w',)),
        (['--dose', '0.5', '1'], 'doses', (0.5, 1.0)),
        (['--dose', '1,.5'], 'doses', (0.5, 1.0)),
        (['--saliency', 'occlusion', 'gradient'], 'saliency', ('gradient', 'occlusion')),
        (['--saliency', 'Grad-CAM,gradient'], 'saliency', ('gradient', 'gradcam')),
        (['--sloppy'], 'fast', True),
        (['--skull-strip-t1w', 'skip'], 'skull_strip_t1w', 'skip'),
        (['--template', 'MNI152NLin6Asym'], 'template', 'MNI152NLin6Asym'),
        (
            ['-d', 'prep=/a', '/b/smri'],
            'derivatives',
            (('prep', Path('/a')), ('smri', Path('/b/smri'))),
        ),
        (['-vv'], 'verbose', 2),
        (['--fail-on-missing'], 'fail_on_missing', True),
        (['--notrack', '--offline'], 'offline', True),
        (['--device', 'cuda:1'], 'device', 'cuda:1'),
        (['--random-seed', '5'], 'random_seed', 5),
    ],
)
def test_options(run, words: list[str], field: str, value: object) -> None:
    code, output, settings = run(*PLACES, *words)
    assert code == 0, output
    assert getattr(settings, field) == value


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--particpant-label', '01'], '--participant-label'),
        (['--n-procss', '2'], '--n-procs'),
        (['--mem', '8'], 'no unit'),
        (['--mem', 'much'], 'not an amount'),
        (['--mem', '8GB', '--mem-mb', '100'], 'only one'),
        (['--dose', '2'], '(0, 1]'),
        (['--dose', 'full'], 'doses are numbers'),
        (['--dose', '0.125'], 'steps of 0.01'),
        (['--saliency', 'smoothgrd'], 'Did you mean smoothgrad?'),
        (['--device', 'tpu'], '--device must be'),
        (['--device', 'cpu:0'], '--device must be'),
        (['--participant-label', '0-1'], 'not a BIDS label'),
        (['--participant-label'], 'requires an argument'),
        (['--random-seed', '-1'], '--random-seed'),
        (['--skull-strip-t1w', 'maybe'], 'maybe'),
        (['--config-file', '/nowhere.toml'], 'cannot be read'),
    ],
)
def test_mistakes_end_with_code_2(run, words: list[str], said: str) -> None:
    code, output, settings = run(*PLACES, *words)
    assert code == 2
    assert said in output
    assert settings is None


def test_levels(run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run('/bids', '/out', 'partcipant')[0] == 2
    assert run('/bids', '/out')[0] == 2
    monkeypatch.undo()
    for level in ('group', 'train'):
        if level not in cli.RUNNERS:
            result = subprocess.run(
                [sys.executable, '-m', 'bids_interp', '/bids', '/out', level],
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 2
            assert 'not part of this version' in result.stderr


def test_the_command_line_wins_over_the_settings_file(run, tmp_path: Path) -> None:
    kept = Settings('/other', '/else', fast=True, doses=(0.5,), participant_label=('01',))
    file = tmp_path / 'bids_interp.toml'
    file.write_text(kept.to_toml())
    code, output, settings = run(*PLACES, '--config-file', str(file), '--dose', '1')
    assert code == 0, output
    assert settings.bids_dir == Path('/bids')
    assert settings.fast is True
    assert settings.doses == (1.0,)
    assert settings.participant_label == ('01',)


@pytest.mark.parametrize(
    ('text', 'said'),
    [('dosis = [1]', 'doses'), ('fast = ', 'TOML'), ('fast = 3', 'fast must be'),
     ('nprocs = "2"', 'nprocs must be'), ('doses = 1.0', 'must be a list')],
)  # fmt: skip
def test_bad_settings_files(run, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / 'settings.toml'
    file.write_text(text)
    code, output, _ = run(*PLACES, '--config-file', str(file))
    assert code == 2
    assert said in output


def test_errors_give_their_code_and_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    from bids_interp.errors import ModelError

    def runner(settings: Settings) -> int:
        raise ModelError('It is broken.', 'Mend it.')

    monkeypatch.setattr(cli, '_runner', lambda level: runner)
    result = CliRunner().invoke(cli.command, PLACES)
    assert result.exit_code == ModelError.exit_code
    assert 'It is broken.' in result.output
    assert 'Mend it.' in result.output


def test_help_shows_every_option_with_words(run) -> None:
    code, output, _ = run('--help')
    assert code == 0
    for option in all_options():
        assert option.help
        shown = next(name for name in option.opts if name not in option.aliases)
        assert shown in output
        assert not any(f'{alias} ' in output for alias in option.aliases)
    for default in ('auto', '20210628', 'T1w, template'):
        assert f'[default: {default}]' in ' '.join(output.split())


def test_every_setting_has_an_option() -> None:
    from dataclasses import fields

    names = {option.name for option in all_options()}
    positionals = {'bids_dir', 'output_dir', 'analysis_level'}
    assert {field.name for field in fields(Settings)} - positionals <= names


HEAVY = ('torch', 'ants', 'nipype', 'niworkflows', 'nibabel', 'numpy', 'bids', 'matplotlib')


@pytest.mark.parametrize('words', [['--help'], ['--version']])
@pytest.mark.parametrize('module', ['main', 'tools'])
def test_help_and_version_import_nothing_heavy(module: str, words: list[str]) -> None:
    code = (
        'import sys\n'
        f'from bids_interp.cli.{module} import main\n'
        f'try:\n    main({words!r})\nexcept SystemExit as end:\n    assert not end.code\n'
        f'print([name for name in {HEAVY!r} if name in sys.modules])\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith('[]')
