"""The documents are true to the program: commands, options, targets and links."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import click
import pytest

from bids_interp.cli import app as main
from bids_interp.cli.tools import command as tools
from bids_interp.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / 'README.md', ROOT / 'CHANGES.md', *sorted((ROOT / 'docs').rglob('*.md'))]

in_every_document = pytest.mark.parametrize(
    'document', DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS]
)


def shell_lines(text: str) -> list[str]:
    """Commands in the fenced shell blocks of a document, continuation lines joined."""
    blocks = re.findall(r'^ *```(?:bash|console|sh)\n(.*?)^ *```', text, re.MULTILINE | re.DOTALL)
    joined = '\n'.join(blocks).replace('\\\n', ' ')
    return [line.strip().removeprefix('$ ') for line in joined.splitlines()]


def commands(text: str, *programs: str) -> list[list[str]]:
    """Commands of these programs, as words, without comments, pipes and variables set before."""
    found = []
    for line in shell_lines(text):
        words = shlex.split(line, comments=True)
        while words and re.match(r'\w+=', words[0]):
            words.pop(0)
        words = words[: next((i for i, word in enumerate(words) if word in '|&&;>'), len(words))]
        if words and Path(words[0]).name in programs:
            found.append(words)
    return found


def test_commands_are_found_in_a_document() -> None:
    text = (
        '```bash\n# first\nOMP=1 bids_interp /in \\\n  /out group  # why\nls\n```\nbids_interp no\n'
    )
    assert commands(text, 'bids_interp') == [['bids_interp', '/in', '/out', 'group']]


@in_every_document
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    text = document.read_text()
    named = {words[1] for words in commands(text, 'make') if '=' not in words[1]}
    named |= set(re.findall(r'`make ([a-z-]+)', text))
    assert named <= targets


@in_every_document
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r'\]\(([^)#\s]+)', document.read_text())
    missing = [
        link for link in links if '://' not in link and not (document.parent / link).exists()
    ]
    assert missing == []


def parse_app(words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Settings that the command line makes; the work itself is not done."""
    seen: list[Settings] = []
    monkeypatch.setattr(main, '_runner', lambda level: lambda settings: seen.append(settings) or 0)
    with pytest.raises(SystemExit) as end:
        main.main(words)
    assert not end.value.code, words
    return seen


def parse_tool(words: list[str]) -> None:
    """Let click parse a line of bids_interp_tools down to its command."""
    command: click.Command = tools.tools
    with contextlib.suppress(click.exceptions.Exit):  # --help and --version
        while isinstance(command, click.Group) and words and not words[0].startswith('-'):
            context = click.Context(command)
            inner = command.get_command(context, words[0])
            assert inner is not None, f'{words[0]} is no command of {command.name}'
            command, words = inner, words[1:]
        command.make_context(command.name, words)


def test_lines_with_mistakes_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_app(['in', 'out', 'participant', '--dose', '0.5'], monkeypatch)[0].doses == (0.5,)
    with pytest.raises(AssertionError):
        parse_app(['in', 'out', 'participant', '--dosis', '1'], monkeypatch)
    with pytest.raises(AssertionError):
        parse_tool(['phantasm', 'out'])
    with pytest.raises(click.UsageError):
        parse_tool(['phantom', 'out', '--number', '8'])


@in_every_document
def test_lines_of_the_app_parse(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands(document.read_text(), 'bids_interp'):
        parse_app(words[1:], monkeypatch)


@in_every_document
def test_lines_of_the_tools_parse(document: Path) -> None:
    for words in commands(document.read_text(), 'bids_interp_tools'):
        parse_tool(words[1:])


@in_every_document
def test_options_in_running_text_exist(document: Path) -> None:
    known = {name for option in main.command.params for name in option.opts + option.secondary_opts}
    known |= {'--help'} | _tool_options(tools.tools)
    text = re.sub(r'^ *```.*?^ *```', '', document.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert set(re.findall(r'`(--[a-z][a-z0-9_-]*)', text)) <= known


def _tool_options(command: click.Command) -> set[str]:
    found = {name for option in command.params for name in option.opts + option.secondary_opts}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found |= _tool_options(inner)
    return found
