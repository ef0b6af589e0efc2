"""Start ``bids_interp`` in forks of a process that has imported it, which saves many seconds.

Each line of the standard input is a request in JSON; the answer is the exit code of the run.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import runpy
import sys
from typing import Any

import bids_interp
from bids_interp.cli import app


def preload() -> None:
    """Import all modules of the program, and with them its libraries."""
    for module in pkgutil.walk_packages(bids_interp.__path__, 'bids_interp.'):
        if not module.name.endswith('__main__'):
            importlib.import_module(module.name)
    importlib.import_module('nipype.pipeline.engine')


def run(request: dict[str, Any]) -> None:
    """Become the program."""
    log = os.open(request['log'], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(request['environ'])
    runpy.run_path(request['hook'])
    app.main(request['words'])


def serve() -> None:
    """Answer requests until the standard input ends."""
    answers = os.fdopen(os.dup(1), 'w')
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            answers.close()
            run(json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        answers.write(f'{os.waitstatus_to_exitcode(status)}\n')
        answers.flush()


if __name__ == '__main__':
    preload()
    serve()
