"""A real SLURM with one node, on this machine's loopback address alone.

``python3 tests/helpers/slurm.py start FOLDER`` prints what to export; ``stop FOLDER`` ends it. All
its state lies in FOLDER; ``check`` only looks whether it can be started. Exit code 69: SLURM's
programs are not installed, or this is not root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

UNAVAILABLE = 69
PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'sinfo')
SEARCHED = f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin'
PATIENCE = 60

CONFIGURATION = """\
ClusterName=bids_interp_test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=6817
SlurmdPort=6818
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/finished.log
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=2000
MpiDefault=none
ReturnToService=2
MinJobAge=3600
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Unavailable(Exception):
    """SLURM cannot be had on this machine."""


def start(folder: Path) -> dict[str, str]:
    """Start the daemons and return the environment for SLURM's commands.

    Raises
    ------
    Unavailable
        If a program is missing, or the daemons do not come up.
    """
    check()
    for name in ('state', 'spool'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2**20 * 9 // 10
    configuration = folder / 'slurm.conf'
    host = socket.gethostname().split('.')[0]
    configuration.write_text(
        CONFIGURATION.format(host=host, folder=folder, cpus=os.cpu_count(), memory=memory)
    )
    key = folder / 'munge.key'
    if not key.exists():
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
    environ = {
        'SLURM_CONF': str(configuration),
        'LOGNAME': os.environ.get('LOGNAME', 'root'),
        'PATH': SEARCHED,
    }
    _call(
        *('munged', '--force', f'--key-file={key}', f'--socket={folder / "munge.socket"}'),
        *(f'--pid-file={folder / "munged.pid"}', f'--log-file={folder / "munged.log"}'),
        f'--seed-file={folder / "munged.seed"}',
    )
    _call('slurmctld', environ=environ)
    _call('slurmd', '-N', host, environ=environ)
    for _ in range(PATIENCE * 2):
        state = subprocess.run(
            ['sinfo', '-h', '-o', '%T'], env={**os.environ, **environ}, capture_output=True
        )
        if state.stdout.strip() == b'idle':
            return environ
        time.sleep(0.5)
    stop(folder)
    raise Unavailable(f'its daemons did not come up; see the logs in {folder}')


def stop(folder: Path) -> None:
    """End the daemons."""
    for name in ('slurmd', 'slurmctld', 'munged'):
        with suppress(OSError, ValueError):
            os.kill(int((folder / f'{name}.pid').read_text()), signal.SIGTERM)


def _call(*words: str, environ: dict[str, str] | None = None) -> None:
    program = shutil.which(words[0], path=SEARCHED)
    done = subprocess.run(
        [program, *words[1:]], env={**os.environ, **(environ or {})}, capture_output=True, text=True
    )
    if done.returncode:
        raise Unavailable(f'{words[0]} ended with code {done.returncode}: {done.stderr.strip()}')


def check() -> None:
    """Raise Unavailable if it cannot be started here."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=SEARCHED)]
    if missing:
        names = 'slurmctld slurmd slurm-client munge'
        raise Unavailable(f'{", ".join(missing)} missing (Debian: {names})')
    if os.geteuid() != 0:
        raise Unavailable('the daemons are started as root')


def main(words: list[str]) -> int:
    """Do what the words say."""
    try:
        match words:
            case ['check']:
                check()
            case ['start', folder]:
                for name, value in start(Path(folder).absolute()).items():
                    print(f'export {name}={value}')
            case ['stop', folder]:
                stop(Path(folder).absolute())
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except Unavailable as error:
        print(f'No SLURM here: {error}.', file=sys.stderr)
        return UNAVAILABLE
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
