# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Deploys of 30 changed files into a checkout with much or little live data, against copying the data away and back.

With the command as it is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import Subject, interleaved, measure

CODE_FILES = 300
CHANGED_FILES = 30
LARGE_BYTES, SMALL_BYTES = 2_000_000_000, 20_000_000
_LOGS = 20
_WHO = {f"GIT_{role}_{what}": "bench@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
# What the seed's workflow does: data to a temporary directory, reset, clean, data back.
_COPY_AWAY = """set -e; away=$1 live=$2 commit=$3
rm -rf "$away"; mkdir -p "$away"; cp -a "$live/paper_trading_outputs" "$live/logs" "$away/"
cd "$live"; git fetch --quiet origin; git reset --quiet --hard "$commit"; git clean -qfd
cp -a "$away/." "$live/"
rm -rf "$away"
"""


class Checkout:
    """An upstream with two commits, a checkout of it with live data, and an application that deploys."""

    def __init__(self, place: Path, size: int) -> None:
        self.upstream, self.live = place / "upstream", place / "live"
        self._place = place
        self._size = size
        self.commits = self._make_upstream()
        _git(place, "clone", "--quiet", str(self.upstream), str(self.live))
        _fill(self.live, size)
        self._configure()
        self._next = 0

    def ours(self) -> Subject:
        """Deploys the other commit in each round."""
        argv = [str(self._program), "--config", str(self._file), "deploy", "--no-backup", ""]
        return Subject(f"deploy beside {self._size >> 20} MB", argv, lambda: argv.__setitem__(-1, self._other()))

    def theirs(self) -> Subject:
        """Does the same by copying the data away and back."""
        argv = ["sh", "-c", _COPY_AWAY, "sh", str(self._place / "away"), str(self.live), ""]
        return Subject("copy away, reset, clean, copy back", argv, lambda: argv.__setitem__(-1, self._other()))

    def downtimes(self) -> list[float]:
        """Seconds without services, of all deploys so far."""
        records = (self._place / "state/bench/deploy/records").glob("*.json")
        return [json.loads(record.read_text())["downtime_seconds"] for record in records]

    def _other(self) -> str:
        self._next = 1 - self._next
        return self.commits[self._next]

    def _make_upstream(self) -> list[str]:
        self.upstream.mkdir(parents=True)
        _git(self.upstream, "init", "--quiet", "--initial-branch=main")
        commits = []
        for version, count in ((0, CODE_FILES), (1, CHANGED_FILES)):
            for number in range(count):
                path = self.upstream / f"bot/part{number % 10}/module{number}.py"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"VERSION = {version}\n" + f"# line of code {number}\n" * 200)
            (self.upstream / ".gitignore").write_text("paper_trading_outputs/\nlogs/\n*.jsonl\n*.db*\n")
            _git(self.upstream, "add", "--all")
            _git(self.upstream, "commit", "--quiet", "--message", f"version {version}")
            commits.append(_git(self.upstream, "rev-parse", "HEAD"))
        return commits

    def _configure(self) -> None:
        from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import (
            SubprocessRunner,
            SystemClock,
        )
        from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import (
            install_configuration,
            install_program,
        )
        from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
        from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
        from ansible_collections.tradekeep.ops.plugins.module_utils.core.program import DEFAULT_INTERPRETER

        paths = {name: str(self._place / name[:-4]) for name in ("state_dir", "backup_dir", "config_dir", "bin_dir")}
        application = resolve_application(
            {"extends": "paper_bot", "deploy": {"repository": str(self.upstream)}},
            app="bench",
            root=str(self.live),
            become=False,
            **paths,
        )
        install_configuration(application)
        ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())
        # With the interpreter of the system, as on a server, where there is one.
        interpreter = DEFAULT_INTERPRETER if Path(DEFAULT_INTERPRETER).exists() else sys.executable
        made = install_program(ports, bin_dir=paths["bin_dir"], config_dir=paths["config_dir"], interpreter=interpreter)
        self._file, self._program = Path(application.config_file), Path(made.record["path"])


def deploy_rows(scratch: Path, rounds: int, row: Any, fact: Any) -> list[dict[str, Any]]:
    """2 GB and 20 MB of live data."""
    large, small = Checkout(scratch / "large", LARGE_BYTES), Checkout(scratch / "small", SMALL_BYTES)
    copied = Checkout(scratch / "copied", LARGE_BYTES)
    subjects = [copied.theirs(), large.ours(), small.ours()]
    for subject in subjects[1:]:
        measure(subject)  # adopting the checkout is the first deploy's work alone
    runs = interleaved(subjects, rounds)
    away, beside, little = (runs[subject.name] for subject in subjects)
    longest = max(large.downtimes())
    for place in ("large", "small", "copied"):
        shutil.rmtree(scratch / place)
    return [
        row("deploy of 30 files beside 2 GB of data", beside, away, "copy the data away and back", 0.1),
        row("deploy of 30 files beside 2 GB of data", beside, little, "the same beside 20 MB", 1.2),
        fact("deploy: longest stop to start, no services", f"{longest:.2f} s", "< 1 s", longest < 1.0),
    ]


def _fill(live: Path, size: int) -> None:
    """Logs of lines and a database, in equal parts."""
    outputs, logs = live / "paper_trading_outputs", live / "logs"
    outputs.mkdir(), logs.mkdir()
    line = json.dumps({"symbol": "BTC", "side": "buy", "price": 64000.5, "note": "x" * 100}) + "\n"
    block = (line * 1000).encode()
    for number in range(_LOGS):
        with (outputs / f"trades{number}.jsonl").open("wb") as log:
            for _round in range(size // 2 // _LOGS // len(block) + 1):
                log.write(block)
    with sqlite3.connect(outputs / "trades.db") as database:
        database.execute("CREATE TABLE trades (id INTEGER PRIMARY KEY, note TEXT)")
        rows = ((os.urandom(500).hex(),) for _number in range(size // 2 // 1020))
        database.executemany("INSERT INTO trades (note) VALUES (?)", rows)


def _git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=directory, env={**os.environ, **_WHO}, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
