# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys on their way from the controller to a host: what must not go there, and what opens a backup for one restore."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import load_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from playing import ansible

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
PLACES = ("root", "backup_dir", "config_dir", "state_dir", "bin_dir")


def make_keys(place: Path, home: Path) -> None:
    """The operator's two files."""
    home.mkdir(mode=0o700)
    base = ["gpg", "--batch", "--quiet", "--homedir", str(home), "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run([*base, "--quick-gen-key", "operator", "future-default", "default", "never"], check=True)
    for name, option in (("operator.asc", "--export"), ("secret.asc", "--export-secret-keys")):
        found = subprocess.run([*base, "--armor", option], check=True, capture_output=True).stdout
        (place / name).write_bytes(found)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


def test_keys_are_judged_first_and_open_a_backup_for_one_restore(
    tmp_path: Path, collections: Path, definition: dict[str, Any], ports: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    make_keys(tmp_path, tmp_path_factory.mktemp("g") / "h")
    variables = {
        **{f"tradekeep_{name}": str(tmp_path / name) for name in PLACES},
        "tradekeep_profile": definition["profile"],
        "tradekeep_app": "toy",
        "tradekeep_become": False,
        "restore_poll": 1,
    }

    def play(playbook: str, status: int = 0, **more: Any) -> str:
        given = json.dumps({**variables, **more})
        done = ansible(tmp_path, collections, "ansible-playbook", f"tradekeep.ops.{playbook}", "-e", given)
        assert done.returncode == status, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    refused = play("site", 2, backup_gpg_key_files=[str(tmp_path / "secret.asc")])
    assert "secret.asc: holds a secret key, which must not leave the controller" in refused
    assert not [name for name in PLACES if (tmp_path / name).exists()]

    play("site", backup_gpg_key_files=[str(tmp_path / "operator.asc")])
    application = load_application(app="toy", config_dir=str(tmp_path / "config_dir"))
    assert Path(application.host_secret_key).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "config_dir/keys/toy").iterdir()] == ["operator.asc"]

    document = tmp_path / "root/state/mode.json"
    before = document.read_text()
    assert backup(application, ports).record["backup"]["name"].endswith(".gpg")
    document.write_text('{"mode": "other"}')
    play("restore", restore_key_on_controller=str(tmp_path / "secret.asc"))
    assert document.read_text() == before
    assert not list(Path("/dev/shm").glob("tradekeep-restore-*"))
