# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Servers that go from one version to the other, and what is to be seen of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import landed
import testinfra
from trading_server import BACKUPS, FILLS, INVENTORY, KEYS, ROOT, Server

STATE = "/var/lib/tradekeep"
UNITS = "/etc/systemd/system"
# What the bot writes to all the time.
WRITTEN = ("fills.db", "fills.db-wal", "fills.db-shm", "fills.jsonl", "system_state.json")


@dataclass(frozen=True)
class Phase:
    """A step of the journey: the version that is installed, and the phase before it, whose backups it finds."""

    name: str
    version: str
    former: str

    def __str__(self) -> str:
        return self.name


PHASES = (
    Phase("upgraded", "current", former="landed"),
    Phase("returned", "landed", former="upgraded"),
    Phase("again", "current", former="returned"),
)


@dataclass(frozen=True)
class Seen:
    """A server at one moment. files: mode, owner and digest (or target) by path; units: digests by name."""

    files: dict[str, tuple[str, ...]]
    units: dict[str, str]
    bot: str


class Installation(Server):
    """One server."""

    def __init__(self, name: str) -> None:
        super().__init__(testinfra.get_host(f"ansible://{name}", ansible_inventory=str(INVENTORY), sudo=True))
        # The rows of fills.db in an archive: how many, and their digest.
        self.rows: dict[str, tuple[int, str]] = {}

    def look(self) -> Seen:
        """All of the state and of the backups, and what lies still in the tree."""
        files: dict[str, tuple[str, ...]] = {}
        for line in self.run(f"find {STATE} {BACKUPS} {ROOT} -printf '%p|%y%m|%u:%g|%l\\n'").splitlines():
            path, mode, owner, target = line.split("|")
            files[path] = (mode, owner, target)
        for path, digest in self._digests(f"find {STATE} {BACKUPS} {ROOT} -type f -print0").items():
            if not path.endswith(WRITTEN):
                files[path] += (digest,)
        names = self._digests(f"find {UNITS} -maxdepth 1 -name 'tradekeep-*' -print0")
        return Seen(files, {path[len(UNITS) + 1 :]: digest for path, digest in names.items()}, self.bot_pid())

    def _digests(self, found: str) -> dict[str, str]:
        lines = self.run(f"{found} | xargs -0 sha256sum").splitlines()
        return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}

    def archive(self, name: str) -> str:
        """The file name of the newest backup that was given this name."""
        return max(archive for archive in self.archives() if f"_{name}.tar" in archive)

    def note_rows(self, phase: str) -> None:
        """Remember what fills.db holds in a backup, by tar and sqlite3 alone."""
        place = self.run("mktemp -d")
        self.run(f"{self.decrypt(self.archive(phase))} | tar -xzf - -C {place}")
        database = f"{place}/databases/accounts/kalshi/demo/fills.db"
        count = int(self.run(f"sqlite3 {database} 'SELECT count(*) FROM fills'"))
        self.rows[phase] = (count, self._digest_of_rows(database, count))
        self.run(f"rm -r {place}")
        assert count

    def has_rows(self, phase: str, database: str = FILLS) -> bool:
        """Whether a database has every row that the backup of that phase holds."""
        count, digest = self.rows[phase]
        return self._digest_of_rows(database, count) == digest

    def _digest_of_rows(self, database: str, count: int) -> str:
        query = f"SELECT * FROM fills WHERE id <= {count} ORDER BY id"
        # Live data as the bot, so that no sidecar of root's is left behind.
        user = "runuser -u trading_user -- " if database == FILLS else ""
        found = self.run(f"{user}sqlite3 -cmd '.timeout 20000' {database} '{query}'")
        assert found
        return hashlib.sha256(found.encode()).hexdigest()

    def listed(self) -> set[str]:
        """The file names of all backups that `list` knows."""
        answer: dict[str, Any] = json.loads(self.run("tradekeep --json list"))
        return {item["path"].rpartition("/")[2] for item in answer["record"]["backups"]}

    def key(self) -> str:
        """What reads an encrypted backup on a bad day, as options of the command."""
        if self.has_passphrase:
            return f"--passphrase-file {KEYS}/passphrase"
        self.run(f"gpg --batch --quiet --import {KEYS}/secret.asc")
        return ""

    def jobs(self) -> list[str]:
        """The services that timers start."""
        timers = self.run(f"cd {UNITS} && ls -d tradekeep-*.timer").split()
        return [timer.replace(".timer", ".service") for timer in timers]

    def unit(self, name: str, key: str) -> str:
        """A property as systemd has it."""
        return self.run(f"systemctl show --value --property={key} {name}")


class Journey:
    """All servers, and what each phase has brought."""

    def __init__(self, names: Sequence[str]) -> None:
        self.servers = {name: Installation(name) for name in names}
        self.said: dict[str, list[str]] = {}
        self.before: dict[tuple[str, str], Seen] = {}
        self.after: dict[tuple[str, str], Seen] = {}
        for server in self.servers.values():
            server.note_rows("landed")

    def reach(self, phase: Phase) -> None:
        """Run `site` twice, as the version of the phase has it; what changes is for the tests to judge."""
        self.before.update({(phase.name, name): seen for name, seen in self._look().items()})
        first = landed.site(phase.version, "upgrade")
        self.after.update({(phase.name, name): seen for name, seen in self._look().items()})
        second = landed.site(phase.version, "upgrade")
        self.said[phase.name] = [first.stdout, second.stdout]

    def _look(self) -> dict[str, Seen]:
        with ThreadPoolExecutor() as pool:
            return dict(zip(self.servers, pool.map(Installation.look, self.servers.values())))
