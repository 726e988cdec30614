# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The server dies in the middle of a restore, and starts again: the data is whole before the bot runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from trading_server import ROOT, Server, eventually

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "hosts"))

import host as hosts  # tests/hosts/host.py

NSPAWN = str(Path(hosts.__file__).with_name("nspawn.py"))
JOURNAL = "var/lib/tradekeep/kalshi/transaction/journal.jsonl"
MARK = "/var/lib/tradekeep/kalshi/runs/backup-daily.running"
FAILURES = "/var/lib/tradekeep/kalshi/failures.log"
MANY = f"{ROOT}/preferences/ui/many"
COUNT = 2500


def write_generation(server: Server, generation: str) -> None:
    """Thousands of documents that all say the same, so that a mixture shows."""
    server.run(
        f"rm -rf {MANY} && install -d -o trading_user -g trading_user {MANY} && cd {MANY} && "
        f'for n in $(seq {COUNT}); do echo \'{{"generation": "{generation}"}}\' > $n.json; done; '
        f"chown -R trading_user:trading_user {MANY}"
    )


def generations(server: Server) -> dict[str, int]:
    """How many documents there are of each generation."""
    said = server.run(f"cat {MANY}/*.json | sort | uniq -c")
    return {json.loads(line.split(None, 1)[1])["generation"]: int(line.split()[0]) for line in said.splitlines()}


def cut_power_when(machine: hosts.Host, state: str) -> None:
    """Kill the host as soon as the journal on its disk says so."""
    journal, wanted = machine.root / JOURNAL, f'"state":"{state}"'.encode()

    def written() -> bool:
        try:
            return wanted in journal.read_bytes().replace(b" ", b"")
        except FileNotFoundError:
            return False

    deadline = time.monotonic() + 120
    while not written():
        assert time.monotonic() < deadline, "the restore never came that far"
    hosts.cut_power(machine)


def start_again(server: Server) -> None:
    subprocess.run([NSPAWN, "up", server.name], check=True, stdout=subprocess.DEVNULL)
    assert eventually(lambda: server.host.run("true").rc == 0, seconds=30)


def moment(server: Server, unit: str, name: str) -> str:
    return server.run(f"systemctl show --value --property={name}TimestampMonotonic {unit}")


def test_hazard_c1_power_loss_in_the_middle_of_a_restore(server: Server) -> None:
    """Killed among the renames on one server; on the other after the last of them, while the services are watched."""
    machine = hosts.load(server.name)
    assert machine is not None
    state = {"systemd": "exchanging", "supervisor": "exchanged"}[server.manager]
    write_generation(server, "backed up")
    server.write_preference("multiplier", 1)
    server.back_up("before_power_loss")
    write_generation(server, "live")
    server.write_preference("multiplier", 7)
    # What a backup leaves that is cut off as well: the timer knows only that it has started it.
    server.run(f"install -d -m 0700 $(dirname {MARK}) && echo '{{}}' > {MARK}")
    server.run("systemd-run --quiet --collect --unit=restore tradekeep restore latest")

    cut_power_when(machine, state)
    start_again(server)

    # Nobody logs in: units do it. The bot was not started on half of the data.
    assert eventually(lambda: not (machine.root / JOURNAL).exists(), seconds=180), server.run("journalctl -b -n 60")
    whole_at = int(moment(server, "tradekeep-guard-kalshi.service", "ExecMainExit"))
    assert 0 < whole_at <= int(moment(server, "trading_system.service", "ExecMainStart"))
    found = generations(server)
    assert found in ({"live": COUNT}, {"backed up": COUNT}), found
    assert server.preference("multiplier") == {"live": 7, "backed up": 1}["live" if "live" in found else "backed up"]
    assert eventually(lambda: bool(server.bot_pid()), seconds=30), server.run("journalctl -b -n 60")
    assert server.trading()
    assert "no operation was cut off" in server.host.run("tradekeep recover").stdout
    # The backup is made up for, and its failure recorded.
    assert eventually(lambda: server.host.run(f"test -e {MARK}").rc != 0, seconds=30), server.run("journalctl -b -n 60")
    assert "tradekeep-backup-kalshi-daily.service was cut off" in server.run(f"cat {FAILURES}")
    unit = "tradekeep-backup-kalshi-daily.service"
    ended = eventually(lambda: moment(server, unit, "ExecMainExit") != "0", seconds=60)
    assert ended, server.run("journalctl -b -n 60")
    server.host.run_expect([0], "tradekeep db check")
    assert server.leftovers() == ""
    server.run(f"rm -r {MANY}")
    server.write_preference("multiplier", 1)
