"""The embedded stores' system user, made by root on a machine that has none yet."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scoreboard.system_user import SYSTEM_USER

STARTERS = 4
ISOLATED = ["unshare", "--mount", "--propagation", "private"]
# Each says its id in one write: pieces of lines would mix.
SAY = 'import os; from scoreboard.system_user import find_or_make_system_user as f; os.write(1, b"%d\\n" % f().pw_uid)'
# In a mount namespace with accounts of its own: /etc is a copy without the user, and the machine's stays as it is.
SCENE = f"""
set -e
mount --bind "$1" /etc
for file in passwd group shadow gshadow; do
    [ ! -e /etc/$file ] || sed -i '/^{SYSTEM_USER}:/d' /etc/$file
done
rm -f /etc/*.lock
for starter in {" ".join(map(str, range(STARTERS)))}; do
    PATH=/nothing "$2" -P -c "$3" &
done
wait
grep '^{SYSTEM_USER}:' /etc/passwd | cut -d: -f3
"""


def test_servers_that_start_at_once_agree_on_the_system_user(tmp_path: Path) -> None:
    allowed = os.geteuid() == 0 and shutil.which("useradd") and shutil.which("unshare")
    if not allowed or subprocess.run([*ISOLATED, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("accounts of its own need root, useradd and mount namespaces")
    etc = tmp_path / "etc"
    subprocess.run(["cp", "-a", "/etc", str(etc)], check=True)
    command = [*ISOLATED, "sh", "-c", SCENE, "scene", str(etc), sys.executable, SAY]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    ids = done.stdout.split()
    assert len(ids) == STARTERS + 1, done.stdout + done.stderr
    assert len(set(ids)) == 1, f"{ids[:-1]} and then {ids[-1]}"
