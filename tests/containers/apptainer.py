"""A real Apptainer: the one of this machine, else Debian's newest in a tree of its own.

``python3 tests/containers/apptainer.py`` sets it up and prints the command. Debian 12 has no
Apptainer; its unstable suite has, but moves: where that fails, this says so (exit code 69).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

SUITE = 'sid'
PACKAGES = 'apptainer,squashfuse,fuse3,ca-certificates'
ORDINARY_USER = 'nobody'

# Apptainer needs user namespaces, which a process in a chroot may not make: the tree becomes the
# root of a mount namespace instead, and the folders of this machine are bound into it.
WRAPPER = """\
#!/bin/bash
set -euo pipefail
export TREE={tree} HERE=$PWD AS=${{APPTAINER_AS-{user}}}
export KEEP_HOME=${{APPTAINER_HOME_FOLDER-$HOME}}
exec unshare --mount --propagation private bash -c '
set -e
mount --bind "$TREE" "$TREE"
for folder in /proc /sys /dev /tmp /home /root {extra}; do
    [ -d "$folder" ] || continue
    mkdir -p "$TREE$folder"
    mount --rbind "$folder" "$TREE$folder"
done
mount --bind "$TREE/fuse-device" "$TREE/dev/fuse"
for file in passwd group hosts resolv.conf; do mount --bind "/etc/$file" "$TREE/etc/$file"; done
mkdir -p "$TREE/.before"
cd "$TREE"
pivot_root . .before
cd "$HERE" 2>/dev/null || cd /
umount -l /.before
export HOME="$KEEP_HOME" PATH=/usr/bin:/usr/sbin
if [ -n "$AS" ] && [ "$AS" != root ]; then
    export USER="$AS" LOGNAME="$AS"
    exec setpriv --reuid="$AS" --regid="$(id -g "$AS")" --clear-groups --inh-caps=-all \\
        apptainer "$@"
fi
export APPTAINER_USERNS=1
exec apptainer "$@"' bash "$@"
"""


def _image_module():
    spec = spec_from_file_location('image', Path(__file__).with_name('image.py'))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.get('image') or module_from_spec(spec)
    if 'image' not in sys.modules:
        sys.modules['image'] = module
        spec.loader.exec_module(module)
    return module


def set_up() -> Path:
    """Return the program to call: ``apptainer``, or a script that runs it in its tree.

    The script runs it as an ordinary user; ``APPTAINER_AS=root`` in the environment as root.

    Raises
    ------
    Unavailable
        If this machine has no Apptainer and none can be made.
    """
    image = _image_module()
    for name in ('apptainer', 'singularity'):
        found = shutil.which(name)
        if found:
            return Path(found)
    missing = [name for name in ('debootstrap', 'unshare', 'setpriv') if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        why = f'{", ".join(missing)} missing' if missing else 'only root can make a tree for one'
        raise image.Unavailable(f'no Apptainer on this machine, and {why}.')
    tree = image.CACHE / SUITE
    if not (tree / 'usr/bin/apptainer').is_file():
        _make_tree(image, tree)
    device = tree / 'fuse-device'
    if not device.exists():
        subprocess.run(['mknod', '-m', '666', str(device), 'c', '10', '229'], check=True)
    for name in ('passwd', 'group', 'hosts', 'resolv.conf'):
        (tree / 'etc' / name).touch()
    script = image.CACHE / 'apptainer'
    tops = {f'/{Path.cwd().parts[1]}', f'/{image.ROOT.parts[1]}'} if Path.cwd() != Path('/') else ()
    extra = ' '.join(sorted(set(tops) - {'/tmp', '/home', '/root'}))
    script.write_text(WRAPPER.format(tree=tree, user=ORDINARY_USER, extra=extra))
    script.chmod(0o755)
    if subprocess.run([str(script), '--version'], capture_output=True).returncode:
        raise image.Unavailable(f'no Apptainer today: the one made in {tree} does not start.')
    return script


def _make_tree(image, tree: Path) -> None:
    sources = [Path('/etc/apt/sources.list'), *Path('/etc/apt/sources.list.d').glob('*.sources')]
    kept = [path for path in sources if path.is_file() and path.read_text().strip()]
    image.CACHE.mkdir(parents=True, exist_ok=True)
    with (image.CACHE / f'{SUITE}.log').open('w') as log:
        done = subprocess.run(
            [
                *('debootstrap', '--variant=minbase', f'--include={PACKAGES}'),
                *(SUITE, str(tree), image.mirror(kept)),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    if done.returncode or not (tree / 'usr/bin/apptainer').is_file():
        raise image.Unavailable(
            f'no Apptainer today: Debian {SUITE} could not be unpacked, see {log.name}.'
        )


if __name__ == '__main__':
    try:
        print(set_up())
    except _image_module().Unavailable as error:
        print(f'Apptainer cannot be tested here: {error}', file=sys.stderr)
        sys.exit(_image_module().UNAVAILABLE)
