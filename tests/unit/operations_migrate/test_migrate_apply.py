# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A migration carried out: one transaction, a backup of what it replaces, hooks and health, and a record."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CommandError,
    ExitStatus,
    ServiceError,
    TradekeepError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem import immutable
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate import migrate as migrate_module
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate_from
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migration_plan import holds_of
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.origin_archive import open_origin
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import pending
from operations_migrate.servers import FILLS, PREFERENCES, listing

UNTOUCHED = ("preferences/mine.json", "preferences/own.json")


class Services:
    """Services that say what was asked of them; ``refused``: a call that fails the first time."""

    def __init__(self, refused: str | None = None, running: tuple[str, ...] = ("bot.service",)) -> None:
        self.calls: list[str] = []
        self.refused = refused
        self.running = running

    def __call__(self, *_arguments: Any) -> Services:
        return self

    def _entry(self, running: tuple[str, ...]) -> list[dict[str, Any]]:
        return [
            {
                "manager": "none",
                "units": ["bot.service"],
                "supervisor_config": None,
                "stay_up_seconds": 0,
                "stop_timeout_seconds": 1,
                "running": list(running),
            }
        ]

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.refused == name:
            self.refused = None
            raise ServiceError(f"did not {name}", path="bot.service")

    def snapshot(self) -> list[dict[str, Any]]:
        return self._entry(self.running)

    def installed(self) -> list[dict[str, Any]]:
        return self._entry(("bot.service",))

    def is_active(self) -> bool:
        return bool(self.running)

    def stop(self, snapshot: Any) -> tuple[str, ...]:
        self._called("stop")
        return ()

    def start(self, snapshot: Any) -> tuple[str, ...]:
        names = tuple(name for entry in snapshot for name in entry["running"])
        self._called("start" if names else "start nothing")
        self.running = names
        return names

    def wait_until_steady(self, snapshot: Any, seconds: float | None = None) -> None:
        self._called("stay up")


def without_lock(server: Any) -> dict[str, Any]:
    """Everything of a server but the lock file, which says when it was last held."""
    return {path: seen for path, seen in listing(server.base).items() if path != "state/kalshi/lock"}


@pytest.fixture
def occupied(new: Any) -> Any:
    """A new server on which somebody has worked already."""
    new.database(rows=5).close()
    for path in UNTOUCHED:
        new.write(path, '{"here": 1}')
    return new


def test_hazard_e_nothing_is_replaced_without_being_asked_for(old: Any, occupied: Any) -> None:
    before = without_lock(occupied)
    done = occupied.migrate(old.root)
    assert done.status is ExitStatus.FAILED
    assert done.record["against"] == [
        f"{FILLS}: differs on this host",
        "preferences/mine.json: is on this host only",
        "preferences/own.json: differs on this host",
    ]
    assert without_lock(occupied) == before


def test_hazard_e_what_is_forced_away_was_backed_up_first(old: Any, occupied: Any) -> None:
    before = listing(occupied.root)
    order: list[str] = []
    done = occupied.migrate(old.root, force=True, step=order.append)
    assert done.status is ExitStatus.DONE
    assert order.index("publish") < order.index("stop")
    assert occupied.rows() == 100
    assert not (occupied.root / "preferences/mine.json").exists()
    (name,) = occupied.backups
    assert "before_migrate" in name
    assert done.record["backup"].endswith(name)
    assert done.record["safety_backup"] is None
    restore(occupied.application, occupied.ports, reference=name)
    assert occupied.rows() == 5
    for path in UNTOUCHED:
        assert listing(occupied.root)[path][2] == before[path][2]


def test_rows_written_between_the_backup_and_the_stop_are_kept_too(old: Any, occupied: Any) -> None:
    stops: list[str] = []

    def trade(step: str) -> None:
        if step == "stop" and not stops:
            stops.append(step)
            occupied.database(rows=1).close()

    done = occupied.migrate(old.root, force=True, step=trade)
    kept = Path(done.record["safety_backup"])
    assert "before_migrate" in kept.name
    restore(occupied.application, occupied.ports, reference=str(kept))
    assert occupied.rows() == 6


def test_what_was_the_same_and_is_written_meanwhile_becomes_the_sources_too(old: Any, new: Any) -> None:
    new.write("preferences/own.json", (old.root / "preferences/own.json").read_bytes())

    def write(step: str) -> None:
        if step == "stop":
            new.write("preferences/own.json", '{"late": 1}')

    done = new.migrate(old.root, force=True, step=write)
    assert (new.root / "preferences/own.json").read_text() == '{"kept": true}'
    kept = Path(done.record["safety_backup"])
    restore(new.application, new.ports, reference=str(kept))
    assert (new.root / "preferences/own.json").read_text() == '{"late": 1}'


def test_what_appears_on_the_target_meanwhile_stops_what_was_not_forced(old: Any, new: Any) -> None:
    def appear(step: str) -> None:
        if step == "stop":
            new.write("preferences/own.json", "{}")

    with pytest.raises(TradekeepError, match="was written on this host while the migration was prepared"):
        new.migrate(old.root, step=appear)
    assert (new.root / "preferences/own.json").read_text() == "{}"
    assert not (new.root / FILLS).exists()
    assert pending(new.state) is None


def test_what_is_locked_with_chattr_is_found_before_anything_stops(
    old: Any, occupied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(immutable, "_flag_of", lambda path: ("i", "immutable") if path.endswith(PREFERENCES) else None)
    order: list[str] = []
    for options in ({"dry_run": True}, {"step": order.append}):
        with pytest.raises(TradekeepError, match="is immutable"):
            occupied.migrate(old.root, force=True, **options)
    assert "stop" not in order
    assert occupied.backups == []


def test_a_damaged_database_of_the_target_is_kept_byte_for_byte(old: Any, occupied: Any) -> None:
    damaged = b"SQLite format 3\0" + b"\xff" * 5000
    (occupied.root / FILLS).write_bytes(damaged)
    done = occupied.migrate(old.root, force=True)
    assert done.record["state"] == "migrated"
    assert occupied.rows() == 100
    with tarfile.open(Path(occupied.application.backup_dir, *occupied.backups)) as kept:
        content = kept.extractfile(FILLS)
        assert content is not None
        assert content.read() == damaged


def test_services_are_stopped_started_and_watched(old: Any, new: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    services = Services()
    monkeypatch.setattr(migrate_module, "services_of", services)
    done = new.migrate(old.root)
    assert done.record["state"] == "migrated"
    assert services.calls == ["stop", "start", "stay up"]
    services.calls.clear()
    assert new.migrate(old.root).record["state"] == "unchanged"
    assert services.calls == []


def test_what_did_not_run_is_started_when_asked_for(old: Any, new: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    services = Services(running=())
    monkeypatch.setattr(migrate_module, "services_of", services)
    done = new.migrate(old.root, start=True)
    assert done.record["started"] == ["bot.service"]
    assert services.calls == ["stop", "start", "stay up"]


@pytest.mark.parametrize("refused", ["stop", "start", "stay up"])
def test_a_service_that_refuses_has_everything_put_back(
    old: Any, occupied: Any, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    services = Services(refused)
    monkeypatch.setattr(migrate_module, "services_of", services)
    before = listing(occupied.root)
    with pytest.raises(ServiceError, match=f"did not {refused}"):
        occupied.migrate(old.root, force=True)
    assert listing(occupied.root) == before
    assert services.calls[-2:] == ["start", "stay up"]
    assert pending(occupied.state) is None
    (record,) = (occupied.state / "migrations").glob("*.json")
    assert json.loads(record.read_text())["state"] == "undone"


@pytest.mark.parametrize("at", ["before_stop", "before_start", "after_start"])
def test_a_hook_that_says_no_has_everything_put_back(old: Any, make_server: Callable[..., Any], at: str) -> None:
    hooks = [{"at": at, "command": ["sh", "-c", "echo positions differ; exit 7"]}]
    new = make_server("new", {"extends": "kalshi", "name": "kalshi", "migrate": {"hooks": hooks}})
    before = listing(new.root)
    with pytest.raises(CommandError, match=f"the hook {at} failed with exit status 7: positions differ"):
        new.migrate(old.root)
    assert listing(new.root) == before
    (record,) = [json.loads(path.read_text()) for path in (new.state / "migrations").glob("*.json")]
    assert (record["state"], record["hooks"][0]["status"]) == ("undone", 7)
    assert "positions differ" in Path(record["hooks"][0]["log"]).read_text()


def test_a_hook_sees_the_new_data(old: Any, make_server: Callable[..., Any]) -> None:
    script = f"test -s {FILLS} && echo $TRADEKEEP_STEP; test $TRADEKEEP_STEP != before_stop"
    hooks = [{"at": "before_start", "command": ["sh", "-c", script]}]
    new = make_server("new", {"extends": "kalshi", "name": "kalshi", "migrate": {"hooks": hooks}})
    assert new.migrate(old.root).record["hooks"][0]["last_line"] == "before_start"


def test_the_record_says_all_of_it(old: Any, occupied: Any) -> None:
    done = occupied.migrate(old.root, force=True, by="somebody")
    path = Path(done.record["record"])
    assert path.parent == occupied.state / "migrations"
    assert oct(path.stat().st_mode)[-3:] == "600"
    kept = json.loads(path.read_text())
    assert {**kept, "record": str(path)} == json.loads(json.dumps(done.record))
    assert kept["by"] == "somebody"
    assert kept["holds"]["databases"][FILLS]["tables"] == {"fills": 100}
    assert kept["holds"]["files"] == 3 + 6
    assert {check["name"]: check["state"] for check in kept["preflight"]} == {
        "source": "ok",
        "profile": "ok",
        "backup": "ok",
        "configuration": "ok",
        "credentials": "ok",
        "space": "ok",
        "versions": "not_applicable",
        "clock": "ok",
        "one bot": "ok",
        "fence": "not_applicable",
        "checks": "not_applicable",
    }
    assert {"staging", "backup", "downtime", "total"} <= set(kept["seconds"])


def test_two_hosts_with_the_same_data_have_the_same_digest(old: Any, new: Any, make_server: Callable[..., Any]) -> None:
    other = make_server("third")
    archive = old.back_up()
    first = new.migrate(old.root).record["holds"]
    second = other.migrate(archive).record["holds"]
    assert first == second


def test_a_file_with_holes_keeps_them(old: Any, new: Any, make_server: Callable[..., Any]) -> None:
    """From a directory and from an archive alike; and the second time nothing is left to do."""
    with open(old.write("state/data.mdb", "used"), "r+b") as file:
        file.truncate(100 << 30)
    other = make_server("third")
    archive = old.back_up()
    for server, source in ((new, old.root), (other, archive)):
        assert server.migrate(source).changed
        status = (server.root / "state/data.mdb").stat()
        assert (status.st_size, status.st_blocks < 100) == (100 << 30, True)
        assert (server.root / "state/data.mdb").open("rb").read(5) == b"used\0"
        assert not server.migrate(source, force=True).changed


def test_what_is_not_what_the_source_says_it_has_never_starts(old: Any, new: Any) -> None:
    opened = partial(open_origin, new.application, new.ports, str(old.root))
    with opened() as origin:
        expected = holds_of(origin.held.entries)["sha256"]
    before = listing(new.root)
    with pytest.raises(TradekeepError, match="is not what the source has"):
        migrate_from(new.application, new.ports, opened, expected="0" * 64)

    def trade(step: str) -> None:
        if step == "stage":
            old.write("preferences/own.json", '{"kept": "changed meanwhile"}')

    late = dataclasses.replace(new.ports, step=trade)
    with pytest.raises(TradekeepError, match="is not what the source has"):
        migrate_from(new.application, late, opened, expected=expected)
    assert listing(new.root) == before
    with opened() as origin:
        expected = holds_of(origin.held.entries)["sha256"]
    done = migrate_from(new.application, new.ports, opened, expected=expected)
    assert done.record["holds"]["sha256"] == expected


def test_the_backup_after_a_migration_does_not_take_fewer_rows_for_a_loss(old: Any, new: Any) -> None:
    new.database(rows=5000).close()
    new.back_up()
    new.migrate(old.root, force=True)
    assert new.back_up().exists()
    assert PREFERENCES in listing(new.root)


def test_what_was_to_be_started_is_started_where_the_data_is_here_already(
    old: Any, new: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spare host on which the recovery was rehearsed has all of it; only the bot does not run yet."""
    new.migrate(old.root)
    services = Services(running=())
    monkeypatch.setattr(migrate_module, "services_of", services)
    assert not new.migrate(old.root).changed
    assert services.calls == []
    done = new.migrate(old.root, start=True)
    assert (done.changed, done.record["started"]) == (True, ["bot.service"])
    assert services.running == ("bot.service",)
    assert not new.migrate(old.root, start=True).changed


def test_a_rehearsal_runs_no_hooks(old: Any, make_server: Callable[..., Any]) -> None:
    hooks = [{"at": "before_start", "command": ["sh", "-c", "exit 7"]}]
    spare = make_server("spare", {"extends": "kalshi", "name": "kalshi", "migrate": {"hooks": hooks}})
    assert spare.migrate(old.root, hooks=False).record["hooks"] == []
