# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Another name in the inventory: what site refuses, and the playbook that takes everything along."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.definition import defined_application
from playing import ansible


def test_the_playbook_rename_takes_an_application_along(
    tmp_path: Path, collections: Path, definition: dict[str, Any], ports: Any
) -> None:
    old = defined_application({**definition, "gpg_recipients": [], "passphrase_file": None})
    tree(old, ports, fix=True)
    install_configuration(old)
    made = backup(old, ports, name="kept").record["backup"]["name"]
    new = defined_application({**definition, "app": "renamed", "gpg_recipients": [], "passphrase_file": None})
    given = {
        **{f"tradekeep_{key}": value for key, value in definition.items() if key != "system"},
        "tradekeep_app": "renamed",
        "tradekeep_become": False,
    }

    def play(name: str, *words: str, **more: str) -> tuple[int, str, str]:
        options = json.dumps({**given, **more})
        done = ansible(tmp_path, collections, "ansible-playbook", f"tradekeep.ops.{name}", "-e", options, *words)
        recap = re.search(r"localhost .* (changed=\d+) ", done.stdout)
        assert recap is not None, done.stdout + done.stderr
        return done.returncode, recap[1], done.stdout

    before = sorted(path.name for path in Path(old.config_dir).iterdir())
    status, _changed, said = play("site", "--check")
    assert status != 0
    assert "is the root of the application toy already" in said
    assert "rename_from=toy" in said
    assert play("rename", "--check", rename_from="toy")[:2] == (0, "changed=1")
    assert sorted(path.name for path in Path(old.config_dir).iterdir()) == before
    status, changed, said = play("rename", rename_from="toy")
    assert (status, changed) == (0, "changed=1")
    assert f"remove {old.config_file}" in said
    assert not Path(old.config_file).exists()
    assert [item["name"] for item in list_backups(new, ports).record["backups"]] == [made]
    assert play("rename", rename_from="toy")[:2] == (0, "changed=0")
