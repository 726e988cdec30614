# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bot that no service of the profile stops: what would be exchanged under it, is not."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.deploy_settings import HealthCheck
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ExitStatus,
    NeedsPersonError,
    ServiceError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import exchange_run, still_writing
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import recover as recover_module
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import restore as restore_module
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.still_writing import (
    StillWrittenError,
    refuse_writers,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction import recovery as recovery_module

FILLS = "databases/accounts/kalshi/demo/fills.db"
MODE = "state/account_mode.json"
BOT = """
import sqlite3, sys
connection = sqlite3.connect({path!r})
print(1, flush=True)
for line in sys.stdin:
    connection.execute("INSERT INTO fills (trade_id) VALUES (?)", (line,))
    connection.commit()
    print(connection.execute("SELECT count(*) FROM fills").fetchone()[0], flush=True)
"""


@contextlib.contextmanager
def trading(path: Path):
    """A bot as pm2 or a terminal runs it: a process that the profile knows nothing of."""
    bot = subprocess.Popen(
        [sys.executable, "-c", BOT.format(path=str(path))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    bot.stdout.readline()
    try:
        yield bot
    finally:
        bot.communicate()


def fill(bot) -> int:
    bot.stdin.write("fill\n")
    bot.stdin.flush()
    return int(bot.stdout.readline())


@pytest.fixture
def filled(bench, monkeypatch):
    monkeypatch.setattr(still_writing, "PATIENCE_SECONDS", 0.0)
    bench.database().close()
    backup(bench.application, bench.ports)
    (bench.root / MODE).write_text('{"mode": "prod"}')
    return bench


def test_hazard_c5_a_restore_under_a_bot_that_nobody_manages_is_not_done(filled):
    with trading(filled.root / FILLS) as bot:
        assert fill(bot) == 101
        for dry_run in (True, False):
            with pytest.raises(StillWrittenError) as caught:
                restore(filled.application, filled.ports, dry_run=dry_run)
            assert caught.value.exit_status is ExitStatus.FAILED
            said = str(caught.value)
            assert f"(process {bot.pid}) writes {filled.root / FILLS}" in said
            assert "names no services to stop" in said
            assert "docs/your-bots-start.md" in said and "--force" in said
        assert fill(bot) == 102
    assert filled.rows() == 102
    assert "prod" in (filled.root / MODE).read_text()


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("to", [None, "look"])
def test_of_what_is_not_in_a_backup_is_said_what_is(filled, tmp_path, to, dry_run):
    place = None if to is None else str(tmp_path / to)
    with pytest.raises(UsageError, match=r"holds nothing of what was chosen \(it holds: .*fills\.db") as told:
        restore(filled.application, filled.ports, paths=["nothing"], to=place, dry_run=dry_run)
    assert "nothing" not in str(told.value).partition("it holds")[2]
    assert not (tmp_path / "look").exists()


def test_force_goes_on_and_names_it(filled):
    with trading(filled.root / FILLS) as bot:
        fill(bot)
        restore(filled.application, filled.ports, force=True, dry_run=True)
        done = restore(filled.application, filled.ports, force=True)
    assert filled.rows() == 100
    of_the_bot = [note.split(":")[0] for note in filled.notes if f"(process {bot.pid})" in note]
    assert of_the_bot == ["would go on although the data is written", "went on although the data is written"]
    assert "no service ran, so none was stopped" in done.lines[-1]
    assert done.record["stopped"] == []


def test_hazard_c5_recover_puts_nothing_back_under_a_bot(filled, monkeypatch):
    """It can have been started since the operation was cut off."""

    def cut(name: str) -> None:
        if name == "start":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange_run, "_put_back", lambda *_arguments: None)
        restore(filled.application, filled.with_steps(cut))
    monkeypatch.setattr(recover_module, "_stands", lambda *_arguments: False)
    with trading(filled.root / FILLS) as bot:
        with pytest.raises(NeedsPersonError, match=rf"\(process {bot.pid}\) writes"):
            recover(filled.application, filled.ports)
        assert "demo" in (filled.root / MODE).read_text()
        assert recover(filled.application, filled.ports, force=True).record["data"] == "old"
    assert "prod" in (filled.root / MODE).read_text()


def test_a_process_that_is_just_ending_is_waited_for(filled, monkeypatch):
    monkeypatch.setattr(still_writing, "PATIENCE_SECONDS", 10.0)
    seen = []

    def writers(_application, _services):
        seen.append(1)
        return ("one",) if len(seen) < 3 else ()

    monkeypatch.setattr(still_writing, "writers_of", writers)
    refuse_writers(filled.application, filled.ports, None)
    assert len(seen) == 3


def test_of_many_writers_the_first_are_named():
    assert still_writing.named(list("abcde")) == "a; b; c and 2 more"
    assert still_writing.named(["a"]) == "a"


class Switch:
    """Services that run until they are stopped."""

    names_any = True

    def __init__(self, running=True):
        self.running = running
        self.calls = []

    def snapshot(self):
        return [{"manager": "command", "units": ["bot"], "running": ["bot"] if self.running else []}]

    def stop(self, snapshot):
        self.calls.append("stop")

    def start(self, snapshot):
        self.calls.append("start")

    def wait_until_steady(self, snapshot):
        pass

    def is_active(self):
        return self.running

    def managers(self):
        return set()


def healthy(bench, monkeypatch, *, running=True, command=("/bin/false",)):
    """The bench, with services and a health check."""
    services = Switch(running)
    for module in (restore_module, recover_module):
        monkeypatch.setattr(module, "services_of", lambda *_arguments: services)
    check = HealthCheck(command=command, timeout_seconds=0.1)
    profile = dataclasses.replace(
        bench.application.profile, deploy=dataclasses.replace(bench.application.profile.deploy, health=(check,))
    )
    return dataclasses.replace(bench.application, profile=profile), services


def test_a_restore_asks_for_health_and_puts_everything_back(filled, monkeypatch):
    application, services = healthy(filled, monkeypatch)
    with pytest.raises(ServiceError, match="is not healthy after") as caught:
        restore(application, filled.ports)
    assert caught.value.exit_status is ExitStatus.FAILED
    assert "--force keeps what was restored" in str(caught.value)
    assert services.calls == ["stop", "start", "stop", "start"]
    assert "prod" in (filled.root / MODE).read_text()
    done = restore(application, filled.ports, force=True)
    assert (done.status, done.changed) == (ExitStatus.FINDINGS, True)
    assert "kept although it is not healthy: /bin/false" in done.lines[-1]
    assert [item["ok"] for item in done.record["health"]] == [False]
    assert "demo" in (filled.root / MODE).read_text()


def test_a_restore_that_is_healthy_says_what_was_stopped(filled, monkeypatch):
    application, _services = healthy(filled, monkeypatch, command=("/bin/true",))
    done = restore(application, filled.ports)
    assert [item["ok"] for item in done.record["health"]] == [True]
    assert done.record["stopped"] == ["bot"]
    assert "services were stopped for" in done.lines[-1]


def test_nobody_asks_for_the_health_of_a_bot_that_is_down(filled, monkeypatch):
    application, _services = healthy(filled, monkeypatch, running=False)
    assert restore(application, filled.ports).record["health"] == []


def test_a_recovery_asks_for_health_too(filled, monkeypatch):
    application, _services = healthy(filled, monkeypatch)

    def cut(name: str) -> None:
        if name == "exchanged":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange_run, "_put_back", lambda *_arguments: None)
        restore(application, filled.with_steps(lambda name: cut("exchanged" if name == "start" else name)))
    journalled = Switch()
    monkeypatch.setattr(recovery_module, "ServiceController", lambda *_arguments: journalled)
    done = recover(application, filled.ports)
    assert done.status is ExitStatus.FINDINGS
    assert "not healthy: /bin/false" in done.lines[-1]
    assert [item["ok"] for item in done.record["health"]] == [False]
    # What was put right once is not asked for again.
    again = recover(application, filled.ports)
    assert (again.status, again.changed, again.record["health"]) == (ExitStatus.DONE, False, [])


def test_what_a_running_service_may_end_is_looked_for_once_it_is_stopped(filled, monkeypatch):
    """A container's processes are in no group of its unit: whose they are shows when that is stopped."""
    application, services = healthy(filled, monkeypatch, command=("/bin/true",))
    with trading(filled.root / FILLS) as bot:
        assert restore(application, filled.ports, dry_run=True).changed
        with pytest.raises(StillWrittenError, match=rf"\(process {bot.pid}\) writes .*its services do not stop that"):
            restore(application, filled.ports)
        assert services.calls == ["stop", "start"]
        monkeypatch.setattr(services, "stop", lambda _snapshot: bot.communicate())
        assert restore(application, filled.ports).record["state"] == "restored"
