# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Ansible against a Debian host over ssh: one module for the whole tree, and how little a second run does.

Twenty hosts are twenty bots on that one host: what a play costs the controller, and each module the host, is the same.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
HOST = "bench12"
FASTER, EXECUTIONS = 5.0, 4
FLEET, PINGS = 20, 5.0
# Nothing to encrypt to is at hand here, so the weekly encrypted backup is left out.
PROFILE = {"extends": "kalshi", "schedules": [{"tier": "daily", "calendar": "*-*-* 02:00:00"}]}
Row = dict[str, Any]


def ansible_rows(_cache: Path, _scratch: Path, rounds: int) -> list[Row]:
    """Both measurements, on a host that is started for them."""
    hosts = [sys.executable, str(TOP / "tests" / "hosts" / "nspawn.py")]
    subprocess.run([*hosts, "up", HOST, "--image", "bookworm"], check=True)
    try:
        return [_tree_row(rounds), _second_run_row(), _fleet_row(rounds)]
    finally:
        subprocess.run([*hosts, "down", HOST], check=True)


def _play(
    *words: str, program: str = "ansible-playbook", inventory: Path = HERE / "inventory", limit: str = HOST
) -> str:
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(TOP / "ansible.cfg"),
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "stopwatch",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = [
        program,
        "-i",
        str(inventory),
        "--limit",
        limit,
        *words,
    ]
    done = subprocess.run(
        command, env=environment, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-3000:]}")
    return done.stdout


def _tree_row(rounds: int) -> Row:
    seconds: dict[str, list[float]] = {"Measured module": [], "Measured loop": []}
    paths = 0
    for _round in range(rounds):
        output = _play(str(HERE / "playbooks" / "tree.yml"))
        for name, found in seconds.items():
            found += [float(text) for text in re.findall(rf"stopwatch: {name}: ([\d.]+)", output)]
        paths = output.count("(item=")
    module, loop = (statistics.median(found) for found in seconds.values())
    print(f"  tree: {seconds}", flush=True)
    return {
        "what": f"a tree of {paths} paths, module `tree`",
        "ours": f"{module:.2f} s",
        "against": f"`ansible.builtin.file` in a loop: {loop:.2f} s",
        "ratio": f"{loop / module:.1f}",
        "target": f">= {FASTER:g}",
        "met": "yes" if loop / module >= FASTER else "NO",
    }


def _second_run_row() -> Row:
    site = ("tradekeep.ops.site", "-e", json.dumps({"tradekeep_profile": PROFILE}))
    _play(*site)
    output = _play(*site, "-vvv")
    modules = re.findall(r"^Using module file \S*/(\w+)\.py", output, re.MULTILINE)
    print(f"  second site.yml: {modules}", flush=True)
    unchanged = bool(re.search(rf"^{HOST} .*changed=0 ", output, re.MULTILINE))
    return {
        "what": "second `site.yml` run" + ("" if unchanged else " (which changed something)"),
        "ours": f"{len(modules)} module execution{'' if len(modules) == 1 else 's'}",
        "against": "",
        "ratio": "",
        "target": f"<= {EXECUTIONS}",
        "met": "yes" if unchanged and 0 < len(modules) <= EXECUTIONS else "NO",
    }


def _fleet_row(rounds: int) -> Row:
    """A second run for twenty hosts against ``ansible all -m ping`` of them, by the clock of whoever waits for it.

    Each round does both, one after the other; the ratio is the median of those of the rounds.
    """
    listed = json.loads(subprocess.run([HERE / "inventory"], stdout=subprocess.PIPE, check=True).stdout)
    known = listed["_meta"]["hostvars"][HOST]
    hosts = {}
    for number in range(FLEET):
        app = f"bot{number:02}"
        places = {
            "tradekeep_app": app,
            "tradekeep_root": f"/opt/fleet/{app}",
            "tradekeep_backup_dir": f"/opt/kept/{app}",
        }
        hosts[f"fleet{number:02}"] = {**known, **places}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as inventory:
        json.dump({"all": {"hosts": hosts}}, inventory)
        inventory.flush()
        everywhere = {"inventory": Path(inventory.name), "limit": "all"}
        site = ("tradekeep.ops.site", "-e", json.dumps({"tradekeep_profile": PROFILE}))
        _play(*site, **everywhere)
        seconds: dict[str, list[float]] = {"ping": [], "site": []}
        for _round in range(rounds):
            seconds["ping"].append(_timed("all", "-m", "ansible.builtin.ping", program="ansible", **everywhere)[0])
            taken, output = _timed(*site, **everywhere)
            seconds["site"].append(taken)
    print(f"  {FLEET} hosts: {seconds}", flush=True)
    unchanged = len(re.findall(r"^fleet\d+ .*changed=0 .*failed=0", output, re.MULTILINE)) == FLEET
    ping, ours = (statistics.median(found) for found in seconds.values())
    ratio = statistics.median(of_site / of_ping for of_ping, of_site in zip(*seconds.values()))
    return {
        "what": f"second `site.yml` run, {FLEET} hosts" + ("" if unchanged else " (which changed something)"),
        "ours": f"{ours:.1f} s",
        "against": f"`ansible all -m ansible.builtin.ping`, {FLEET} hosts: {ping:.1f} s",
        "ratio": f"{ratio:.1f}",
        "target": f"<= {PINGS:g}",
        "met": "yes" if unchanged and ratio <= PINGS else "NO",
    }


def _timed(*words: str, **where: Any) -> tuple[float, str]:
    started = time.monotonic()
    output = _play(*words, **where)
    return time.monotonic() - started, output
