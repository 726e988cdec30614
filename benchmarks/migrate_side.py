# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""How long a bot is down when it moves to another server: 1 GB over ssh, of which 1 % changes meanwhile.

Against stopping it, copying all with rsync, and starting it there; between two hosts on this machine, and with a link
as servers have it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from recover_side import EXTRA_BYTES, TOP

OLD, NEW = "benchfrom13", "benchto13"
NAMESPACE, INTERFACE = f"tradekeep-{OLD}", "eth0"
LINK = "1gbit"
ROOT = "/opt/trading_system/user_data"
RATIO = 0.15
Row = dict[str, Any]
PROFILE = {
    "extends": "kalshi",
    "services": [{"manager": "systemd", "units": ["trading_system.service"], "stay_up_seconds": 2}],
    "schedules": [],
}
# Commits about 1 MB in each second into the largest database: some 1 % of it all until it is stopped.
BOT = f"""import sqlite3, time
bot = sqlite3.connect("{ROOT}/databases/trade_history/trades.db", isolation_level=None, timeout=60)
bot.execute("pragma journal_mode=wal")
bot.execute("create table if not exists bench (id integer primary key, text text)")
while True:
    bot.execute("insert into bench (text) values (?)", ("x" * 20_000,))
    time.sleep(0.02)
"""
UNIT = """[Service]
User=trading_user
ExecStart=/usr/bin/python3 /opt/trading_system/bot.py
[Install]
WantedBy=multi-user.target
"""


class Pair:
    """Both servers, as their root sees them."""

    def __init__(self) -> None:
        self._hosts = [sys.executable, str(TOP / "tests" / "hosts" / "nspawn.py")]
        for name in (OLD, NEW):
            subprocess.run([*self._hosts, "up", name, "--image=trixie", "--fresh"], check=True)
        said = subprocess.run([*self._hosts, "inventory"], check=True, capture_output=True, text=True).stdout
        self._variables = json.loads(said)["_meta"]["hostvars"]

    def down(self) -> None:
        """No trace of them."""
        for name in (OLD, NEW):
            subprocess.run([*self._hosts, "down", name], check=True)

    def address(self, name: str) -> str:
        """Where it is."""
        return str(self._variables[name]["ansible_host"])

    def run(self, name: str, script: str, given: bytes | None = None) -> str:
        """A script as root."""
        host = self._variables[name]
        options = [*host["ansible_ssh_common_args"].split(), "-i", host["ansible_ssh_private_key_file"]]
        words = ["ssh", *options, f"root@{host['ansible_host']}", script]
        return subprocess.run(words, check=True, stdout=subprocess.PIPE, input=given).stdout.decode()

    @staticmethod
    def limit(rate: str) -> None:
        """Let what the old server sends go no faster, see tc-tbf(8)."""
        queue = ["root", "tbf", "rate", rate, "burst", "1mb", "latency", "50ms"]
        subprocess.run(["ip", "netns", "exec", NAMESPACE, "tc", "qdisc", "add", "dev", INTERFACE, *queue], check=True)

    def set_up(self, data: Path) -> None:
        """The same installation on both, the data on the old one, and a way from the new one to the old."""
        for name in (OLD, NEW):
            variables = json.dumps({"tradekeep_profile": PROFILE, "backup_passphrase_file": ""})
            words = [str(Path(sys.executable).parent / "ansible-playbook"), "tradekeep.ops.site", "-e", variables]
            words += ["-i", str(TOP / "molecule/shared/inventory/hosts"), "--limit", name]
            environment = {**os.environ, "ANSIBLE_CONFIG": str(TOP / "ansible.cfg")}
            subprocess.run(words, check=True, cwd=TOP, stdout=subprocess.DEVNULL, env=environment)
            self.run(name, "cat > /opt/trading_system/bot.py", BOT.encode())
            self.run(name, "cat > /etc/systemd/system/trading_system.service", UNIT.encode())
            self.run(name, "systemctl daemon-reload; chown -R trading_user: /opt/trading_system")
        with subprocess.Popen(["tar", "-C", str(data), "-c", "."], stdout=subprocess.PIPE) as packed:
            content = packed.communicate()[0]
        self.run(OLD, f"tar -C {ROOT} -x && head -c {EXTRA_BYTES} /dev/urandom > {ROOT}/state/history.bin", content)
        self.run(OLD, f"chown -R trading_user: {ROOT}; systemctl start trading_system")
        key = self.run(NEW, "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519; cat ~/.ssh/id_ed25519.pub")
        self.run(OLD, "cat >> ~/.ssh/authorized_keys", key.encode())
        host_key = self.run(OLD, "cat /etc/ssh/ssh_host_ed25519_key.pub")
        self.run(NEW, "cat > ~/.ssh/known_hosts", f"{self.address(OLD)} {host_key}".encode())


def migrate_rows(data: Path, rounds: int, fact: Any) -> list[Row]:
    """Downtimes of both ways in turn: between two hosts on one machine, and with a link as servers have it."""
    pair = Pair()
    try:
        pair.set_up(data)
        found = [_row(pair, rounds, fact, "through this machine's memory")]
        pair.limit(LINK)
        return [*found, _row(pair, rounds, fact, "over 1 Gbit/s")]
    finally:
        pair.down()


def _row(pair: Pair, rounds: int, fact: Any, link: str) -> Row:
    ours: list[float] = []
    theirs: list[float] = []
    record: dict[str, Any] = {}
    for _round in range(rounds):
        theirs.append(_by_rsync(pair))
        record = _by_us(pair)
        ours.append(float(record["handover"]["downtime"]))
    mine, peer = sorted(ours)[len(ours) // 2], sorted(theirs)[len(theirs) // 2]
    told = record["handover"]
    print(f"  migration {link}: {told['seconds']}, {told['bytes']}, {record['holds']['bytes']} bytes", flush=True)
    print(f"  of it on the old server: {told['source_seconds']}", flush=True)
    # All that was sent again, most of it before the stop.
    again = sum(size for phase, size in told["bytes"].items() if phase != "pre-copy 1")
    share = again / record["holds"]["bytes"]
    what = f"migration of 1 GB {link}, {share:.1%} changed: downtime against stop, rsync, start ({peer:.2f} s)"
    return fact(what, f"{mine:.2f} s, {mine / peer:.2f}x", f"<= {RATIO}x", mine <= RATIO * peer)


def _by_rsync(pair: Pair) -> float:
    """Stop, copy all, start; then back to how it was."""
    place = "/opt/trading_system/copied"
    begun = time.monotonic()
    pair.run(OLD, "systemctl stop trading_system")
    pair.run(NEW, f"rsync -a -e ssh root@{pair.address(OLD)}:{ROOT}/ {place}/")
    pair.run(NEW, "systemctl start trading_system")
    took = time.monotonic() - begun
    pair.run(NEW, f"systemctl stop trading_system; rm -rf {place} {ROOT}/databases/trade_history/trades.db*")
    pair.run(OLD, "systemctl start trading_system")
    return took


def _by_us(pair: Pair) -> dict[str, Any]:
    """Migrate; then back to how it was."""
    said = pair.run(NEW, f"tradekeep --json migrate --force --from root@{pair.address(OLD)}")
    record: dict[str, Any] = json.loads(said)["record"]
    pair.run(NEW, "tradekeep fence; tradekeep unfence --no-start")
    pair.run(NEW, f"find {ROOT} -type f -delete")
    pair.run(OLD, "tradekeep unfence")
    return record
