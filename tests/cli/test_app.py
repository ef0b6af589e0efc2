"""The command line makes the right settings, and says what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from bids_interp.cli import app as cli
from bids_interp.cli.options.participant import all_options
from bids_interp.cli.params import Option
from bids_interp.settings import LEVELS, Settings

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
        (['--clean-on-success'], 'clean_on_success', True),
        (['--output-spaces', 'T1w'], 'output_spaces', ('T1w',)),
        (['--dose', '0.5', '1'], 'doses', (0.5, 1.0)),
        (['--dose', '1,.5'], 'doses', (0.5, 1.0)),
        (['--saliency', 'occlusion', 'gradient'], 'saliency', ('gradient', 'occlusion')),
        (['--saliency', 'Grad-CAM,gradient'], 'saliency', ('gradient', 'gradcam')),
        (['--remeasure'], 'remeasure', True),
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
    ('words', 'named'),
    [
        (['--particpant-label', '01'], '--participant-label'),
        (['--n-procss', '2'], '--n-procs'),
        (['--mem', '8'], '--mem'),
        (['--mem', 'much'], '--mem'),
        (['--mem', '8GB', '--mem-mb', '100'], '--mem-mb'),
        (['--dose', '2'], '--dose'),
        (['--dose', 'full'], '--dose'),
        (['--dose', '0.125'], '--dose'),
        (['--saliency', 'smoothgrd'], 'smoothgrad'),
        (['--device', 'tpu'], '--device'),
        (['--device', 'cpu:0'], '--device'),
        (['--participant-label', '0-1'], '--participant-label'),
        (['--participant-label'], '--participant-label'),
        (['--model'], '--model'),
        (['--random-seed', '-1'], '--random-seed'),
        (['--skull-strip-t1w', 'maybe'], 'maybe'),
        (['--config-file', '/nowhere.toml'], '--config-file'),
    ],
)
def test_mistakes_end_with_code_2(run, words: list[str], named: str) -> None:
    code, output, settings = run(*PLACES, *words)
    assert code == 2
    assert named in output
    assert settings is None


def test_unknown_and_missing_levels(run) -> None:
    assert run('/bids', '/out', 'partcipant')[0] == 2
    assert run('/bids', '/out')[0] == 2


TRAIN = ['--label', 'group', '--positive', 'patient']
# One value for each option that takes some and has no other value that is sure to be accepted.
VALUES = {
    'FLOAT': '3', 'INTEGER': '100', 'NUMBER': '1', 'NUMBER...': '1', 'SIZE': '8GB',
    '[auto|cpu|cuda|cuda:N]': 'cpu', 'METHOD...': 'all',
}  # fmt: skip


def words_of(option: Option) -> list[str]:
    """An option with a value that it accepts."""
    if option.is_flag or option.count:
        return [option.flag_name]
    choices = getattr(option.type, 'choices', None)
    metavar = option.metavar or option.type.name.upper()
    return [option.flag_name, choices[0] if choices else VALUES.get(metavar, 'x')]


@pytest.mark.parametrize('level', LEVELS)
@pytest.mark.parametrize('option', all_options(), ids=lambda option: option.flag_name)
def test_options_are_refused_at_the_levels_that_do_not_use_them(
    run, option: Option, level: str
) -> None:
    code, output, settings = run('/bids', '/out', level, *words_of(option))
    if level in option.levels:
        assert 'does not use' not in output
    else:
        assert code == 2
        assert settings is None
        assert option.flag_name in output
        assert all(name in output for name in option.levels)


def test_each_refused_option_is_named_with_its_level(run) -> None:
    words = ['--regression', '--folds', '9', '--null-models', '/nowhere', '--dose', '1']
    code, output, settings = run(*PLACES, *words)
    assert (code, settings) == (2, None)
    for named in ('--regression (train)', '--folds (train)', '--null-models (group)'):
        assert named in output
    assert '--dose' not in output


def test_settings_of_other_levels_in_a_file_are_ignored_with_a_note(run, tmp_path: Path) -> None:
    file = tmp_path / 'bids_interp.toml'
    file.write_text(
        Settings(
            '/bids',
            '/out',
            'train',
            label='group',
            positive='patient',
            folds=9,
            fast=True,
            nprocs=2,
        ).to_toml()
    )
    code, output, settings = run('/bids', '/out', 'train', '--config-file', str(file))
    assert (code, output) == (0, '')
    assert (settings.folds, settings.fast, settings.nprocs) == (9, True, 2)
    code, output, settings = run('/bids', '/out', 'group', '--config-file', str(file))
    assert code == 0
    assert (settings.label, settings.folds, settings.fast) == (None, None, False)
    assert settings.nprocs == 2
    for named in ('label (train)', 'positive (train)', 'folds (train)', 'fast (participant and'):
        assert named in output
    for unchanged in ('doses', 'regression', 'permutations', 'nprocs'):
        assert unchanged not in output


@pytest.mark.parametrize(
    'words',
    [
        ['--resolution', '2'],
        ['--members', '2'],
        ['--classifier-steps', '5'],
        ['--grid-size', '48'],
        ['--model-template', 'MNI152NLin6Asym'],
        ['--classifier-module', 'a:b'],
    ],
)
def test_options_without_effect_on_a_classifier_of_ones_own(run, words: list[str]) -> None:
    own = ['--classifier', '/net.pt2', '--classifier-card', '/card.json']
    level = ['/bids', '/out', 'train', *TRAIN]
    code, output, settings = run(*level, *own, *words)
    assert (code, settings) == (2, None)
    assert words[0] in output
    assert (
        run(*level, *own, '--capacity', 'template', '--simulator-steps', '5', '--folds', '3')[0]
        == 0
    )
    if words[0] != '--classifier-module':
        assert run(*level, *words)[0] == 0


def test_a_card_without_its_classifier_is_refused(run) -> None:
    words = ['--classifier', 'robust', '--classifier-card', '/card.json']
    code, output, settings = run('/bids', '/out', 'train', *TRAIN, *words)
    assert (code, settings) == (2, None)
    assert '--classifier-card' in output


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
    ('text', 'named'),
    [
        ('dosis = [1]', 'doses'),
        ('fast = ', 'TOML'),
        ('fast = 3', 'fast'),
        ('nprocs = "2"', 'nprocs'),
        ('doses = 1.0', 'doses'),
    ],
)
def test_bad_settings_files(run, tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / 'settings.toml'
    file.write_text(text)
    code, output, settings = run(*PLACES, '--config-file', str(file))
    assert (code, settings) == (2, None)
    assert named in output


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


def test_help_names_the_levels_of_each_option(run) -> None:
    _, output, _ = run('--help')
    sections = re.findall(r'^(\S[^\n]*) \((.*)\):\n((?:  .*\n)+)', output, re.MULTILINE)
    levels = {title: ' and '.join(LEVELS) if named == 'all levels' else named
              for title, named, _ in sections}  # fmt: skip
    texts = {title: text for title, _, text in sections}
    for option in all_options():
        title = option.group.title
        assert option.flag_name in texts[title]
        assert levels[title] == ' and '.join(option.group.levels)
        if option.levels != option.group.levels:
            own = texts[title].split(f'{option.flag_name} ')[1].split('\n  -')[0]
            assert f'[{" and ".join(option.levels)} only]' in ' '.join(own.split())


def test_every_setting_has_an_option() -> None:
    from dataclasses import fields

    names = {option.name for option in all_options()}
    positionals = {'bids_dir', 'output_dir', 'analysis_level'}
    assert {field.name for field in fields(Settings)} - positionals <= names
