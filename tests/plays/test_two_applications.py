# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Two bots on one server, with the very inventory of docs/a-year-later.md, as root."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playing import BIN, CHECKOUT
from test_keys import make_keys
from test_site import PROGRAMS

# /etc is a copy and /opt empty at first; both keep from one command to the next what is put there.
IN_NAMESPACE = """
set -e
mount --bind "$1/etc" /etc
mount --bind "$1/opt" /opt
mount -t tmpfs -o mode=0755 none /usr/local/sbin
cp "$1"/programs/* /usr/local/sbin/
shift
exec "$@"
"""
# A systemd that knows what it was told to enable.
SYSTEMCTL = """
known=/etc/enabled
verb=$1; shift
case "$verb" in
  reenable) for unit; do echo "$unit" >> $known; done ;;
  disable) exit 1 ;;
  show)
    for unit; do
      case "$unit" in -*|*,*) continue ;; esac
      state=disabled active=inactive
      if grep -qxF "$unit" $known 2> /dev/null; then state=enabled active=active; fi
      printf 'Id=%s\\nLoadState=loaded\\nUnitFileState=%s\\nActiveState=%s\\n\\n' "$unit" $state $active
    done ;;
esac
"""


class Server:
    """This machine with an /etc and an /opt of its own, and its person's inventory."""

    def __init__(self, base: Path, collections: Path) -> None:
        self.base, self._collections = base, collections
        shutil.copytree("/etc", base / "etc", symlinks=True)
        for name in ("programs", "opt", "inventories/mine/keys"):
            (base / name).mkdir(parents=True)
        for name, script in {**PROGRAMS, "systemctl": SYSTEMCTL}.items():
            (base / "programs" / name).write_text(f"#!/bin/sh\n{script}\n")
            (base / "programs" / name).chmod(0o755)

    def run(self, *words: str) -> str:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", IN_NAMESPACE, "sh", str(self.base), *words],
            cwd=self.base,
            env={
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "HOME": str(self.base),
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_COLLECTIONS_PATH": str(self._collections),
                "ANSIBLE_NOCOLOR": "true",
                "ANSIBLE_PIPELINING": "true",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def site(self) -> dict[str, str]:
        """What became of each host: ``changed=N``."""
        here = {
            "ansible_connection": "local",
            "ansible_become_method": "su",
            "ansible_python_interpreter": sys.executable,
            "runtime_interpreter": sys.executable,
            # Where these lie by default nothing of this machine may be replaced.
            "tradekeep_state_dir": "/opt/var/tradekeep",
            "tradekeep_bin_dir": "/opt/bin",
        }
        playbook = ["ansible-playbook", "tradekeep.ops.site", "-i", "inventories/mine/hosts.yml"]
        said = self.run(*playbook, "-e", json.dumps(here))
        return dict(re.findall(r"^(\w+) +: ok=.*(changed=\d+) .*failed=0", said, re.MULTILINE))


def inventory_of_the_guide() -> str:
    text = (CHECKOUT / "docs/a-year-later.md").read_text(encoding="utf-8")
    chapter = text.partition("\n## A second bot on the same server\n")[2].partition("\n## ")[0]
    found = re.search(r"^```yaml\n# inventories/mine/hosts.yml\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes accounts, in a mount namespace")
@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
def test_the_inventory_of_the_guide_gives_each_bot_its_own(
    tmp_path: Path, collections: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Server(tmp_path, collections)
    (tmp_path / "inventories/mine/hosts.yml").write_text(inventory_of_the_guide())
    make_keys(tmp_path / "inventories/mine/keys", tmp_path_factory.mktemp("g") / "h")
    first = server.site()
    assert set(first) == {"bot1_kalshi", "bot1_freqtrade"}
    assert "changed=0" not in first.values()
    assert server.site() == dict.fromkeys(first, "changed=0")

    configured = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "etc/tradekeep").glob("*.json")}
    assert set(configured) == {"kalshi", "freqtrade"}
    for key in ("root", "owner"):
        assert len({item["application"][key] for item in configured.values()}) == 2, key
    assert {item["application"]["backup_dir"] for item in configured.values()} == {"/opt/backups"}
    units = sorted(path.name for path in (tmp_path / "etc/systemd/system").glob("tradekeep-*"))
    for name in configured:
        assert f"tradekeep-backup-{name}-daily.timer" in units
        assert (tmp_path / f"etc/tradekeep/keys/{name}/operator.asc").is_file()
        assert (tmp_path / f"opt/var/tradekeep/.host-keys/{name}/secret.asc").is_file()

    for name in configured:
        server.run("/opt/bin/tradekeep", "--app", name, "backup")
    sidecars = (tmp_path / "opt/backups").glob("*.json")
    made = {json.loads(path.read_text())["application"]: path.name[: -len(".json")] for path in sidecars}
    assert set(made) == set(configured)
    assert len({name.partition("_2")[0] for name in made.values()}) == 2
    links = [os.readlink(path) for path in (tmp_path / "opt/backups").iterdir() if path.is_symlink()]
    assert sorted(links) == sorted(made.values())
