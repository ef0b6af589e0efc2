"""A real Apptainer: the one of this machine, else Debian's newest in a tree of its own.

Debian 12 has no Apptainer; its unstable suite has, but moves: where that fails, the error says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from helpers import image

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


def set_up() -> Path:
    """Return the program to call: ``apptainer``, or a script that runs it in its tree.

    The script runs it as an ordinary user; ``APPTAINER_AS=root`` in the environment as root.

    Raises
    ------
    Unavailable
        If this machine has no Apptainer and none can be made.
    """
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
        try:
            image.unpack(tree, SUITE, PACKAGES)
        except image.Unavailable as error:
            raise image.Unavailable(f'no Apptainer today: {error}') from error
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
