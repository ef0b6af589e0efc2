from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bids_interp.cli.tools.command import tools
from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.levels import inject as injecting
from bids_interp.levels.inject_request import Injection


@pytest.fixture
def run(monkeypatch):
    """Parse a command line; what would be run is returned."""
    seen = []
    monkeypatch.setattr(injecting, 'run_inject', lambda *given: seen.append(given) or 0)

    def call(*words: str):
        seen.clear()
        result = CliRunner().invoke(tools, ['inject', *words])
        return result, *(seen[0] if seen else (None, None))

    return call


def test_scenarios_and_effects_are_handed_on(run):
    result, settings, injection = run(
        '/in', '/out', '--scenario', 'S1', '--strength', 'strong', '--replicates', '4'
    )
    assert result.exit_code == 0, result.output
    assert (settings.bids_dir, settings.output_dir) == (Path('/in'), Path('/out'))
    assert injection.scenario.changes['hippocampus'] == -0.25
    assert (injection.replicates, injection.severity) == (4, (0.7, 1.3))
    assert isinstance(injection, Injection)
    words = '--effect hippocampus=-15% amygdala=-0.1 --effect absorb=csf --severity 0.5 2 /in /out'
    result, settings, injection = run(
        *words.split(), '--participant-label', 'sub-01', '03', '--template', 'MNI152NLin6Asym'
    )
    assert result.exit_code == 0, result.output
    assert injection.scenario.changes == {'hippocampus': -0.15, 'amygdala': -0.1}
    assert injection.scenario.effect.absorb == 'csf'
    assert injection.severity == (0.5, 2.0)
    assert injection.template == 'MNI152NLin6Asym'
    assert settings.participant_label == ('01', '03')
    named = run('/in', '/out', '--effect', 'hippocampus')[2]
    assert named.scenario.changes['parahippocampal'] == -0.3
    assert named.template == EMBEDDED_TEMPLATE


def test_lists_may_stand_before_the_folders(run):
    words = '--participant-label 01 02 --effect hippocampus=-15% amygdala=-10% /in /out'
    result, settings, injection = run(*words.split())
    assert result.exit_code == 0, result.output
    assert (settings.bids_dir, settings.output_dir) == (Path('/in'), Path('/out'))
    assert settings.participant_label == ('01', '02')
    assert injection.scenario.changes == {'hippocampus': -0.15, 'amygdala': -0.1}
    assert run('/in', '/out', '--seed')[0].exit_code == 2


@pytest.mark.parametrize(
    ('words', 'named'),
    [
        ([], ['--scenario', '--effect']),
        (['--scenario', 'S1', '--effect', 'ventricles'], ['--scenario', '--effect']),
        (['--scenario', 'S9'], ['S9', 'S1']),
        (['--scenario', 'S1', '--atlas', 'x.nii.gz'], ['--atlas', '--effect']),
        (['--scenario', 'S1', '--atlas-labels', 'x.tsv'], ['--atlas-labels', '--effect']),
        (['--effect', 'ventricles', '--strength', 'strong'], ['--strength', '--scenario']),
        (['--effect', 'hippo=-15%'], ['hippo']),
        (['--effect', 'hippocampus=-15%', '--atlas', '/none.nii.gz'], ['/none.nii.gz']),
        (['--effect', 'hippocampus=-15%', '--atlas-labels', 'x.tsv'], ['--atlas-labels']),
        (['--effect', 'a=-5%', '--atlas', 'A:B', '--template', 'C'], ['A', 'C']),
        (['--effect', 'a=-5%', '--atlas', 'A:B'], ['A:B']),
    ],
)
def test_impossible_requests_are_refused(run, words, named):
    result, settings, _ = run('/in', '/out', *words)
    assert result.exit_code == 2
    assert all(name in result.output for name in named)
    assert settings is None


@pytest.mark.parametrize('name', ['S9', 'S10a', 'S11'])
def test_scenarios_of_the_benchmark_alone_are_refused(run, name):
    result, settings, _ = run('/in', '/out', '--scenario', name)
    assert result.exit_code == 2
    assert settings is None
    assert 'bench truth' in result.output
