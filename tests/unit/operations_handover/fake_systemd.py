# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A systemd of one unit below a directory: ``units/`` as /etc/systemd/system, a real process as the bot.

Everything is on the disk, because several processes look at it. Each start and end of the bot is a line of a log that
both servers share.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CommandError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.files import process_lives
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.identity import privileged
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed

BOT = "trading_system.service"
PROGRAM = Path(__file__).with_name("trader.py")


class MachineRunner(SubprocessRunner):
    """Runs programs for real, but for systemctl."""

    def __init__(self, base: Path) -> None:
        super().__init__()
        self._base = base

    def find(self, program: str) -> str | None:
        if program == "systemctl":
            return "/bin/systemctl"
        return None if program in ("supervisorctl", "journalctl", "systemd-run") else super().find(program)

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        if argv[0] != "systemctl":
            return super().run(argv, **options)
        with privileged():  # systemd is another process
            return self._systemctl(argv)

    def _systemctl(self, argv: Sequence[str]) -> Completed:
        verb, unit = argv[1], argv[-1]
        if verb == "daemon-reload":
            fails = self._base / "reload_fails_once"
            if fails.exists():
                fails.unlink()
                raise CommandError("failed with exit status 1", path="systemctl")
            self._reload()
        if verb == "show":
            units = argv[argv.index("--") + 1 :]
            return Completed(tuple(argv), 0, "\n".join(self._shown(unit) for unit in units), "")
        if verb == "start":
            if unit != BOT or self._load(unit) != "loaded":
                raise CommandError(f"Unit {unit} is masked.", path="systemctl")
            if not self._asserted(unit):
                raise CommandError(f"Assertion failed on job for {unit}.", path="systemctl")
            if (self._base / "refuses").exists():
                raise CommandError("Job failed.", path="systemctl")
            start_bot(self._base)
        if verb == "stop" and unit == BOT:
            stop_bot(self._base)
        return Completed(tuple(argv), 0, "", "")

    def _reload(self) -> None:
        """What is masked on the disk counts from now on, and no longer what was."""
        (self._base / "seen").write_text(self._on_disk(BOT))
        settings = (self._base / "runtime" / f"{BOT}.d").glob("*.conf")
        (self._base / "settings").write_text("".join(path.read_text() for path in settings))

    def _asserted(self, unit: str) -> bool:
        """Whether what the unit's settings said must exist, when they were last read, does."""
        seen = self._base / "settings"
        lines = [line.partition("=") for line in (seen.read_text().splitlines() if seen.exists() else ())]
        return all(Path(value).exists() for key, _equals, value in lines if key == "AssertPathExists")

    def _load(self, unit: str) -> str:
        seen = self._base / "seen"
        if unit == BOT and seen.exists() and self._on_disk(unit) != "not-found":
            return seen.read_text()
        return self._on_disk(unit)

    def _on_disk(self, unit: str) -> str:
        place = self._base / "units" / unit
        if (self._base / "runtime" / unit).exists():
            return "loaded"
        if place.is_symlink() and os.readlink(place) == "/dev/null":
            return "masked"
        return "loaded" if place.exists() else "not-found"

    def _shown(self, unit: str) -> str:
        pid = bot_of(self._base) if unit == BOT else 0
        state = "active" if pid else "inactive"
        return (
            f"LoadState={self._load(unit)}\nActiveState={state}\nSubState=x\nType=simple\nMainPID={pid}\n"
            "NRestarts=0\nResult=success\nTriggeredBy=\n"
        )


def bot_of(base: Path) -> int:
    """The number of the living bot, 0 when there is none."""
    try:
        pid = int((base / "bot.pid").read_text() or 0)
    except FileNotFoundError:
        return 0
    if not pid or not process_lives(pid):
        return 0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        named = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return 0
    # A program that the kernel is still putting in place has no arguments yet.
    return pid if fields[0] not in "ZX" and (not named or str(base).encode() in named) else 0


def start_bot(base: Path) -> None:
    if bot_of(base):
        return
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    account = base / "account"
    uid, _colon, gid = account.read_text().partition(":") if account.exists() else ("", "", "")
    whose = f", user={uid}, group={gid}, extra_groups=()" if uid else ""
    code = (
        f"import subprocess, sys; p = subprocess.Popen(sys.argv[2:], start_new_session=True{whose}); "
        "open(sys.argv[1], 'w').write(str(p.pid))"
    )
    # The interpreter of the tests, and the checkout, may be out of reach of another account.
    interpreter = "/usr/bin/python3" if uid else sys.executable
    words = [interpreter, "-B", "-S", "-c", PROGRAM.read_text(encoding="utf-8"), str(base)]
    # A grandchild: nobody has to reap it.
    subprocess.run([sys.executable, "-S", "-c", code, str(base / "bot.pid"), *words], check=True, **options)


def stop_bot(base: Path) -> None:
    pid = bot_of(base)
    if not pid:
        return
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 60
    while bot_of(base) == pid:
        if time.monotonic() > until:
            raise CommandError("does not stop", path=BOT)
        time.sleep(0.005)
