# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""An old server on which a bot trades, a new one beside it, and what the tests of handovers look at."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from fake_systemd import BOT, bot_of, start_bot, stop_bot
from pair import command
from trader import FILLS

PROFILE = {
    "extends": "kalshi",
    "services": [{"manager": "systemd", "units": [BOT], "stay_up_seconds": 0.2, "stop_timeout_seconds": 30}],
}
PREFERENCES = "preferences/trading/trade_preferences.json"
LARGE = "state/large.log"


class Server:
    """One of the two."""

    def __init__(self, base: Path, owner: str | None = None, **profile: Any) -> None:
        """owner: an account that the bot runs as, and that its data belongs to; None is whoever runs the test.

        profile: more of it.
        """
        self.base = base
        (base / "units").mkdir(parents=True)
        (base / "units" / BOT).write_text("# the bot\n")
        account = pwd.getpwuid(os.getuid()) if owner is None else pwd.getpwnam(owner)
        if owner is not None:
            (base / "account").write_text(f"{account.pw_uid}:{account.pw_gid}")
        places = {"root": "data", "backup_dir": "backups", "state_dir": "state", "config_dir": "etc", "bin_dir": "bin"}
        self.application = resolve_application(
            {**PROFILE, **profile},
            app="kalshi",
            owner=account.pw_name,
            group=grp.getgrgid(account.pw_gid).gr_name,
            **{name: str(base / place) for name, place in places.items()},
        )
        tree(self.application, Ports(SubprocessRunner(), SystemClock(), NoProgress()), fix=True)
        config = Path(self.application.config_file)
        config.parent.mkdir(exist_ok=True)
        config.write_text(render_configuration(self.application))

    def give_all(self) -> None:
        """What a test has written into the data belongs to the owner."""
        account = pwd.getpwnam(self.application.owner)
        for path in (self.root, *self.root.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)

    @property
    def root(self) -> Path:
        return self.base / "data"

    @property
    def state(self) -> Path:
        return self.base / "state" / "kalshi"

    @property
    def fence(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.state / "fenced.json").read_text()))
        except FileNotFoundError:  # also when it comes down this instant
            return None

    @property
    def note(self) -> str | None:
        path = self.state / "handover.json"
        return str(json.loads(path.read_text())["state"]) if path.exists() else None

    @property
    def runs(self) -> bool:
        return bool(bot_of(self.base))

    @property
    def masked(self) -> bool:
        return (self.base / "units" / BOT).is_symlink()

    def run(self, role: str, **wanted: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(self.base, role, **wanted), capture_output=True, text=True, timeout=120, check=False
        )

    def fills(self) -> set[tuple[int, str]]:
        """All that are committed, and of which server's bot; only where no bot writes."""
        connection = sqlite3.connect(f"file:{self.root / FILLS}?mode=ro", uri=True)
        try:
            return set(connection.execute("select id, trade_id from fills"))
        finally:
            connection.close()


class Pair:
    """Both of them. The bot trades on the old one."""

    def __init__(self, base: Path, owner: str | None = None, **profile: Any) -> None:
        self.base = base
        self.old, self.new = Server(base / "old", owner, **profile), Server(base / "new", owner, **profile)
        (self.old.root / PREFERENCES).write_text('{"position_size": 3}')
        (self.old.root / LARGE).write_bytes(os.urandom(300_000))
        (self.old.root / "state/last.log").symlink_to("large.log")
        if owner is not None:
            self.old.give_all()
            for name in ("alone", "promised", "lives"):  # of the bots, in a directory that is not theirs
                (base / name).touch()
                shutil.chown(base / name, owner)
        start_bot(self.old.base)
        self.wait(lambda: self.promised > 5)

    @property
    def promised(self) -> int:
        """How many fills bots were told are committed."""
        return len(self.promises())

    def promises(self) -> set[tuple[int, str]]:
        """Each of them, and of which server's bot it is: one that is lost, its number is given anew."""
        path = self.base / "promised"
        lines = path.read_text().splitlines() if path.exists() else []
        return {(int(number), whose) for number, _space, whose in (line.partition(" ") for line in lines)}

    def new_command(self, **wanted: Any) -> list[str]:
        """The same as a command line."""
        return command(self.new.base, "take", source=str(self.old.base), **wanted)

    def steps(self, server: Server) -> str:
        """What a server has done, a line each."""
        path = server.base / "steps"
        return path.read_text() if path.exists() else ""

    def take(self, **wanted: Any) -> subprocess.CompletedProcess[str]:
        """Migrate from the old server to the new one."""
        return self.new.run("take", source=str(self.old.base), **wanted)

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.told()
            time.sleep(0.02)

    def go_on(self, role: str) -> None:
        """Have what was stopped by a signal go on."""
        for found in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (found / "cmdline").read_bytes().split(b"\0")
                if role.encode() in words and str(self.old.base).encode() in words:
                    os.kill(int(found.name), signal.SIGCONT)

    def told(self) -> str:
        """What there is to say when a wait was in vain."""
        return (
            f"old runs {self.old.runs} fence {self.old.fence}; new runs {self.new.runs} fence {self.new.fence}; "
            f"note {self.new.note}; lives {self.lives()}"
        )

    def lives(self) -> list[str]:
        path = self.base / "lives"
        return [line.split(" ", 1)[1] for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def alive(self) -> list[str]:
        return [name for name, server in (("old", self.old), ("new", self.new)) if server.runs]

    def check_never_two(self) -> None:
        assert not (self.base / "two_bots").exists(), self.lives()
        assert len(self.alive) <= 1

    def check_nothing_lost(self, server: Server) -> None:
        """Every fill that a bot was told is committed is there. Stops the bot."""
        stop_bot(server.base)
        lost = self.promises() - server.fills()
        assert not lost, f"{len(lost)} of {self.promised} lost, from {min(lost)}; {self.told()}"

    def settle(self) -> None:
        """What the machines do by themselves after a kill: systemd runs ``recover`` where the takeover was."""
        self.new.run("recover")

    def end(self) -> None:
        stop_bot(self.old.base)
        stop_bot(self.new.base)
        for found in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if str(self.base).encode() in (found / "cmdline").read_bytes():
                    os.kill(int(found.name), signal.SIGKILL)
