# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The playbook that migrates from the controller, from end to end, as an account that is not root would run it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.definition import defined_application
from playing import ansible


def rows(database: Path) -> int:
    connection = sqlite3.connect(database)
    try:
        return int(connection.execute("select count(*) from fills").fetchone()[0])
    finally:
        connection.close()


def test_data_comes_from_the_controller_and_nothing_of_it_stays_behind(
    tmp_path: Path, collections: Path, definition: dict[str, Any], ports: Any
) -> None:
    application = defined_application(definition)
    tree(application, ports, fix=True)
    install_configuration(application)
    source = tmp_path / "user_data"
    (source / "state").mkdir(parents=True)
    (source / "state/positions.json").write_text('{"open": 2}')
    connection = sqlite3.connect(source / "state/fills.db")
    connection.execute("create table fills (id integer primary key)")
    connection.executemany("insert into fills values (?)", [(number,) for number in range(30)])
    connection.commit()
    connection.close()
    variables = {
        "tradekeep_profile": definition["profile"],
        "tradekeep_app": "toy",
        "tradekeep_become": False,
        "tradekeep_root": definition["root"],
        "tradekeep_backup_dir": definition["backup_dir"],
        "tradekeep_config_dir": definition["config_dir"],
        "tradekeep_state_dir": definition["state_dir"],
        "tradekeep_bin_dir": definition["bin_dir"],
        "migrate_source_on_controller": str(source),
        "migrate_force": True,
        "migrate_poll": 1,
    }
    words = ["tradekeep.ops.migrate", "-e", json.dumps(variables)]
    planned = ansible(tmp_path, collections, "ansible-playbook", "--check", *words)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "changed=1" in planned.stdout
    assert not Path(definition["root"], "state/positions.json").exists()
    done = ansible(tmp_path, collections, "ansible-playbook", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path(definition["root"], "state/positions.json").read_text() == '{"open": 2}'
    assert rows(Path(definition["root"], "state/fills.db")) == 30
    again = ansible(tmp_path, collections, "ansible-playbook", *words)
    assert "changed=0" in again.stdout
    assert not list(Path(definition["state_dir"]).glob(".tradekeep-migrate-*"))
    link = tmp_path / "link"
    link.symlink_to(source)
    words[-1] = json.dumps({**variables, "migrate_source_on_controller": str(link)})
    refused = ansible(tmp_path, collections, "ansible-playbook", *words)
    assert refused.returncode != 0
    assert "a symlink is not followed" in refused.stdout
