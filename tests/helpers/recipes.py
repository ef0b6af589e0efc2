"""Pages with recipes: their blocks, run in order as a reader would run them."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bids_interp.bids.read.query import T1wRecord
from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.cli import app
from bids_interp.cli.tools.command import tools
from bids_interp.group.analysis import GroupAnalysis
from bids_interp.levels.group import prepare_group
from bids_interp.levels.labels import LabelTable, read_labels
from bids_interp.models.bundle.reader import default_bundle_path
from bids_interp.settings import Settings
from helpers import cohorts

_BLOCK = re.compile(r'^```(bash|python)\n(.*?)^```', re.MULTILINE | re.DOTALL)


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Language and text of each step: a Python block, or a logical line of a shell block."""
    for language, block in _BLOCK.findall(text):
        if language == 'python':
            yield language, block
            continue
        for line in block.replace('\\\n', ' ').splitlines():
            if shlex.split(line, comments=True):
                yield language, line


@dataclass
class Done:
    """A command of the app that was run."""

    settings: Settings | None
    code: int
    output: str
    table: LabelTable | None = None

    @property
    def level(self) -> str:
        """Level of the command; empty if the command line was refused."""
        return self.settings.analysis_level if self.settings else ''

    @property
    def labels(self) -> LabelTable:
        """Images of the training with their labels and families."""
        assert self.table is not None, self.output
        return self.table

    def group(self) -> GroupAnalysis:
        """Return the images and variables of the group level."""
        assert self.settings is not None
        return prepare_group(self.settings)


@dataclass
class Kitchen:
    """A folder in which ``BIDS_DIR`` and ``OUTPUT_DIR`` exist under these names.

    Parameters
    ----------
    root : pathlib.Path
        The current folder.
    patch : pytest.MonkeyPatch
        Catches the settings of the commands.
    """

    root: Path
    patch: pytest.MonkeyPatch
    tools: list[Result] = field(default_factory=list)

    def follow(self, page: str) -> list[Done]:
        """Run all steps of a text; commands of the app as dry runs."""
        done: list[Done] = []
        for language, text in steps(page):
            if language == 'python':
                exec(compile(text, 'recipe', 'exec'), {})
                continue
            words = shlex.split(text, comments=True)
            if words[0] == 'bids_interp':
                done.append(self.app(*words[1:]))
            elif words[0] == 'bids_interp_tools':
                self.tool(*words[1:])
            else:
                subprocess.run(['bash', '-c', text], check=True, timeout=60)
        return done

    def app(self, *words: str) -> Done:
        """Dry-run a command after its requirements have been put in place."""
        # The validator is slow, and skeletons are not meant for it.
        quick = () if 'group' in words[:3] else ('--skip-bids-validation',)
        seen: list[Settings] = []
        tables: list[LabelTable] = []
        run = app._runner

        def runner(level: str):
            def start(settings: Settings) -> int:
                seen.append(settings)
                self._prepare(settings)
                return run(level)(settings)

            return start

        def read(settings: Settings, records: Sequence[T1wRecord]) -> LabelTable:
            tables.append(read_labels(settings, records))
            return tables[-1]

        with self.patch.context() as patch:
            patch.setattr(app, '_runner', runner)
            patch.setattr('bids_interp.levels.train.read_labels', read)
            result = CliRunner().invoke(app.command, [*words, '--dry-run', *quick])
        settings, table = next(iter(seen), None), next(iter(tables), None)
        return Done(settings, result.exit_code, result.output, table)

    def tool(self, *words: str) -> None:
        """Run a tool; those that compute only parse their line."""
        if words[0] == 'hpc':
            (self.root / 'bids_interp.sif').touch()
            self.tools.append(CliRunner().invoke(tools, words))

    def _prepare(self, settings: Settings) -> None:
        """Leave what the commands before would have left if they had not been dry runs."""
        if settings.analysis_level == 'participant' and settings.model is not None:
            settings.model.parent.mkdir(parents=True)
            settings.model.symlink_to(default_bundle_path())
        if settings.analysis_level == 'group':
            prepare_output(settings.output_dir, {'raw': settings.bids_dir})
            for folder in sorted(settings.bids_dir.glob('sub-*'))[:8]:
                visits = sorted(path.name[4:] for path in folder.glob('ses-*')) or ['']
                for visit in visits:
                    cohorts.write_scan(settings.output_dir, folder.name[4:], visit)
