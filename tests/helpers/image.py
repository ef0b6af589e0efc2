"""Build the image: ``python3 tests/helpers/image.py TAG [options of the builder]``.

Docker where its daemon answers, else Buildah. Where the base image is not at hand and cannot be
pulled, it is made from Debian's packages with debootstrap. pip's configuration of this machine, its
certificates and the PyTorch wheels of its folders are handed to the build as secrets and as a build
context; nothing of them stays in the image. Only the standard library is needed.

Exit code 69: this machine has no means to build an image; standard error says what is missing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get('BIDS_INTERP_CONTAINER_CACHE') or ROOT / 'build' / 'containers')
BASE = 'docker.io/library/debian:bookworm-slim'
SUITE = 'bookworm'
UNAVAILABLE = 69
# Buildah and Podman inside of another container: no network of their own, limits that can be set.
CONTAINERS_CONF = """\
[engine]
runtime = "runc"
[containers]
default_ulimits = ["nofile=10000:10000", "nproc=4096:4096"]
netns = "none"
"""


class Unavailable(Exception):
    """Something that this machine does not have."""


def main(words: Sequence[str]) -> int:
    """Build the image TAG."""
    if not words:
        print(__doc__)
        return 2
    try:
        build(words[0], words[1:])
    except Unavailable as error:
        print(f'No image can be built here: {error}', file=sys.stderr)
        return UNAVAILABLE
    return 0


def build(tag: str, options: Sequence[str] = (), root: Path = ROOT) -> None:
    """Build the image of the repository in `root`."""
    CACHE.mkdir(parents=True, exist_ok=True)
    found = engine()
    pip_conf, bundle, wheels = pip_setup(CACHE / 'pip')
    command = [
        *(['docker', 'build'] if found == 'docker' else buildah()),
        *('--secret', f'id=pipconf,src={pip_conf}', '--secret', f'id=cabundle,src={bundle}'),
        *('--build-context', f'wheels={wheels}'),
        *('--build-arg', f'VERSION={version(root)}', '--build-arg', f'REVISION={revision(root)}'),
        *(*options, '-t', tag, str(root)),
    ]
    subprocess.run(command, check=True, env=environment())


def engine() -> str:
    """Return ``docker`` or ``podman``, whichever works here (``BIDS_INTERP_ENGINE`` decides).

    Raises
    ------
    Unavailable
        If there is neither.
    """
    wanted = os.environ.get('BIDS_INTERP_ENGINE')
    if wanted:
        return wanted
    if shutil.which('docker') and _succeeds(['docker', 'info']):
        return 'docker'
    if shutil.which('podman') and shutil.which('buildah'):
        return 'podman'
    raise Unavailable('neither Docker nor Podman with Buildah is installed.')


def environment() -> dict[str, str]:
    """Return the environment for Podman and Buildah."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / 'containers.conf'
    path.write_text(CONTAINERS_CONF)
    return {'CONTAINERS_CONF': str(path), **os.environ}


def buildah() -> list[str]:
    """Return the beginning of a Buildah command, with the base image at hand."""
    if not _succeeds(['buildah', 'inspect', '--type', 'image', BASE]) and not _succeeds(
        ['buildah', 'pull', '--quiet', BASE]
    ):
        make_base()
    isolation = ['--isolation', 'chroot', '--network', 'host']
    return ['buildah', 'bud', '--layers', '--pull-never', *isolation, '--build-arg', f'BASE={BASE}']


def make_base() -> None:
    """Make Debian's slim base image from its packages.

    Raises
    ------
    Unavailable
        Without debootstrap, or without the right to use it.
    """
    if not shutil.which('debootstrap') or os.geteuid() != 0:
        raise Unavailable(
            f'{BASE} cannot be pulled, and making it needs debootstrap and the rights of root.'
        )
    tree = CACHE / 'base'
    if not (tree / 'usr').is_dir():
        unpack(tree, SUITE, 'ca-certificates')
    (tree / 'etc/apt/sources.list').write_text('')
    for path in apt_sources():
        target = tree / 'etc/apt' / path.relative_to('/etc/apt')
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for leftover in tree.glob('var/cache/apt/archives/*.deb'):
        leftover.unlink()
    packed = subprocess.Popen(['tar', '-C', str(tree), '-cf', '-', '.'], stdout=subprocess.PIPE)
    subprocess.run(
        ['podman', 'import', '-q', '--change', 'CMD ["bash"]', '-', BASE],
        stdin=packed.stdout,
        check=True,
        env=environment(),
    )


def unpack(tree: Path, suite: str, packages: str) -> None:
    """Unpack a suite of Debian with some packages into a folder, by debootstrap.

    Raises
    ------
    Unavailable
        If that fails; nothing is left then.
    """
    log = CACHE / f'{tree.name}.log'
    command = ['debootstrap', '--variant=minbase', f'--include={packages}', suite, str(tree)]
    with log.open('w') as stream:
        done = subprocess.run([*command, mirror()], stdout=stream, stderr=subprocess.STDOUT)
    if done.returncode:
        shutil.rmtree(tree, ignore_errors=True)
        raise Unavailable(f'Debian {suite} could not be unpacked, see {log}.')


def apt_sources() -> list[Path]:
    """Return the files that say where this machine takes Debian's packages from."""
    files = [Path('/etc/apt/sources.list'), *Path('/etc/apt/sources.list.d').glob('*.sources')]
    return [path for path in files if path.is_file() and path.read_text().strip()]


def mirror() -> str:
    """Return the address that this machine takes Debian's packages from.

    Raises
    ------
    Unavailable
        If none is configured.
    """
    for path in apt_sources():
        found = re.search(r'^(?:URIs:|deb(?:\s+\[[^]]*\])?)\s+(\S+)', path.read_text(), re.M)
        if found:
            return found.group(1)
    raise Unavailable('apt has no source of packages here.')


def pip_setup(folder: Path) -> tuple[Path, Path, Path]:
    """Write what pip needs inside of the build, from its configuration outside.

    Returns
    -------
    tuple of Path
        Configuration file, file of certificates, and folder of PyTorch's wheels (perhaps empty).
    """
    wheels = folder / 'wheels'
    shutil.rmtree(folder, ignore_errors=True)
    wheels.mkdir(parents=True)
    listed = subprocess.run(
        [sys.executable, '-m', 'pip', 'config', 'list'], capture_output=True, text=True
    )
    settings = read_pip_settings(listed.stdout)
    lines = ['[global]']
    for key in ('index-url', 'extra-index-url', 'trusted-host'):
        # Folders of this machine are not seen inside of the build.
        kept = [word for word in settings.get(key, '').split() if not word.startswith('file:')]
        lines += [f'{key} = {" ".join(kept)}'] if kept else []
    bundle = folder / 'cabundle'
    bundle.write_text('')
    if Path(settings.get('cert', '')).is_file():
        shutil.copy(settings['cert'], bundle)
        lines.append('cert = /run/secrets/cabundle')
    for word in settings.get('find-links', '').split():
        for wheel in Path(word.removeprefix('file://')).glob('torch-*.whl'):
            shutil.copy(wheel, wheels)
    path = folder / 'pip.conf'
    path.write_text('\n'.join(lines) + '\n')
    return path, bundle, wheels


def read_pip_settings(text: str) -> Mapping[str, str]:
    """Read what ``pip config list`` prints: the environment wins over files.

    Examples
    --------
    >>> dict(read_pip_settings("global.cert='/a'\\n:env:.find-links='/w /v'\\n"))
    {'cert': '/a', 'find-links': '/w /v'}
    """
    settings: dict[str, str] = {}
    pattern = re.compile(r"(?:global|install|:env:)\.([\w-]+)='(.*)'$")
    for line in sorted(text.replace('\\n', ' ').splitlines(), key=lambda line: line[0] == ':'):
        found = pattern.match(line)
        if found:
            settings[found.group(1)] = found.group(2)
    return settings


def version(root: Path) -> str:
    """Return the version of the sources."""
    text = (root / 'bids_interp' / 'version.py').read_text()
    found = re.search(r"^__version__ = '([^']+)'", text, re.M)
    return found.group(1) if found else 'unknown'


def revision(root: Path) -> str:
    """Return the commit of the sources, if that is known."""
    done = subprocess.run(
        ['git', '-C', str(root), 'rev-parse', 'HEAD'], capture_output=True, text=True
    )
    return done.stdout.strip() or 'unknown'


def _succeeds(command: Sequence[str]) -> bool:
    done = subprocess.run(command, capture_output=True, env=environment())
    return done.returncode == 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
