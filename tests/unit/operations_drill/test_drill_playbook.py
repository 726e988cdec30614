# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook drill over several hosts, run by Ansible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from drill_bench import Bench

CHECKOUT = Path(__file__).resolve().parents[3]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")

pytestmark = pytest.mark.skipif(not PLAYBOOK.exists(), reason="ansible-playbook is not beside this Python")


def keys_in_memory() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith("tradekeep-drill-")}


@pytest.mark.once
def test_one_table_for_all_hosts_and_a_failure_for_those_that_did_not_pass(tmp_path: Path) -> None:
    hosts = {}
    for name in ("good", "bad", "none"):
        place = tmp_path / name
        hosts[name] = {"tradekeep_config_dir": str(place / "config_dir")}
        if name == "none":
            continue
        place.mkdir()
        bench = Bench(place)
        bench.database().close()
        made = bench.backup()
        install_configuration(bench.application)
        if name == "bad":
            made.write_bytes(made.read_bytes()[:-5])
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "tradekeep_app": "kalshi",
        "tradekeep_become": False,
    }
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"vars": common, "hosts": hosts}}))
    (tmp_path / "key").write_text("a key that nobody needs, as nothing is encrypted\n")
    collection = tmp_path / "collections/ansible_collections/tradekeep/ops"
    collection.parent.mkdir(parents=True)
    collection.symlink_to(CHECKOUT)
    before = keys_in_memory()
    given = {"drill_report": str(tmp_path / "report.md"), "drill_controller_key": str(tmp_path / "key")}
    done = subprocess.run(
        [PLAYBOOK, "tradekeep.ops.drill", "-i", tmp_path / "hosts.json", "-e", json.dumps(given)],
        cwd=tmp_path,
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
            "ANSIBLE_ASYNC_DIR": str(tmp_path / "jobs"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
            "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    report = [line.split(" | ") for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("| ")]
    assert [(row[0], row[3]) for row in report[1:]] == [("| good", "passed"), ("| bad", "failed"), ("| none", "failed")]
    assert "damaged or exchanged" in report[2][-1] and "no application" in report[3][-1]
    recap = done.stdout.partition("PLAY RECAP")[2]
    failed = {line.split()[0]: "failed=1" in line for line in recap.splitlines() if "failed=" in line}
    assert failed == {"good": False, "bad": True, "none": True}
    assert "changed=0" in next(line for line in recap.splitlines() if line.startswith("bad"))
    assert keys_in_memory() <= before, "the key was taken away everywhere"
    assert "a key that nobody needs" not in done.stdout + done.stderr
