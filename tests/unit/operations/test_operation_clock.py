# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One night with a wrong clock, and what comes after it."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.basis import newest_good, restored_at
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.backup_first import (
    forget_old_backups,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.deploy import _latest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.record import dated_records
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.source import LOCAL, choose_backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.retention import decide
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog


class SetClock(SystemClock):
    """The clock of the system, set wrong by so much."""

    wrong = timedelta()

    def now(self):
        return datetime.now(timezone.utc) + self.wrong


@pytest.fixture
def night(bench):
    """A backup before, one of a night with a clock that was 40 days ahead, and one after it."""
    clock = SetClock()
    bench.ports = dataclasses.replace(bench.ports, clock=clock)
    mode = bench.root / "state/account_mode.json"
    made = []
    for content, wrong in (("before", -1), ("wrong", 40), ("after", 0)):
        clock.wrong = timedelta(days=wrong)
        mode.write_text(json.dumps({"mode": content}))
        made.append(backup(bench.application, bench.ports, tier="daily").record["backup"]["name"])
    bench.clock, bench.mode, bench.made = clock, mode, made
    bench.notes.clear()
    return bench


def test_the_night_is_passed_over_and_said(night):
    before, wrong, after = night.made
    said = list_backups(night.application, night.ports).lines
    assert any(wrong in line and "future" in line for line in said)
    assert any(line.startswith(f"note: passed over, as dated in the future: {wrong}") for line in said)
    assert f"): {after}" in said[-1], "the last good backup is another"
    night.mode.write_text('{"mode": "lost"}')
    done = restore(night.application, night.ports)
    assert done.record["backup"] == after
    assert json.loads(night.mode.read_text()) == {"mode": "after"}
    assert any(wrong in note for note in night.notes)
    chosen = choose_backup(night.application, night.ports, "latest", LOCAL)
    assert (chosen.backup.name, chosen.newest) == (after, True)
    catalog = LocalCatalog(night.application, night.ports.clock)
    assert (night.backups / "latest_backup.tar.gz").resolve().name == after
    kept = {item.backup.name: item for item in decide(catalog.list(), night.application.profile.retention, now(night))}
    assert kept[wrong].keep and kept[wrong].reasons == ("dated in the future",)
    assert restore(night.application, night.ports, reference=wrong).record["backup"] == wrong
    assert verify(night.application, night.ports, reference="all").status == 0
    assert before in kept


def now(bench):
    return bench.clock.now()


def test_what_the_night_held_is_no_measure_for_the_backups_after_it(night):
    """The rows of the last backup are what the next one is compared with."""
    catalog = LocalCatalog(night.application, night.ports.clock)
    assert newest_good(catalog).name == night.made[2]


def test_a_restore_of_that_night_hides_no_loss_until_its_date_has_come(night):
    marker = night.base / "state/kalshi/restored.json"
    for days, known in ((40, False), (-1, True)):
        marker.write_text(json.dumps({"at": (now(night) + timedelta(days=days)).isoformat(), "backup": "x"}))
        assert (restored_at(night.application, now(night)) is not None) == known


def test_an_hour_ahead_does_not_stand_for_its_day(night):
    """The clock of a machine that runs on local time, taken for UTC."""
    catalog = LocalCatalog(night.application, night.ports.clock)
    ahead = dataclasses.replace(catalog.list()[0], moment=now(night) + timedelta(hours=1), name="ahead")
    others = [item for item in catalog.list() if item.name != night.made[1]]
    decisions = {item.backup.name: item for item in decide([ahead, *others], _one_a_day(night), now(night))}
    assert decisions["ahead"].reasons == ("dated in the future",)
    assert decisions[night.made[2]].keep


def _one_a_day(bench):
    return dataclasses.replace(bench.application.profile.retention, daily=1, weekly=0, monthly=0, keep_last=0)


def test_a_backup_verified_that_night_does_not_come_last_for_ever(night):
    catalog = LocalCatalog(night.application, night.ports.clock)
    for name, days in zip(night.made, (-3, 40, -1)):
        catalog.record_verified(catalog.find(name), "entries", now(night) + timedelta(days=days), True)
    order = [item["name"] for item in verify(night.application, night.ports, reference="all").record["backups"]]
    assert order == [night.made[1], night.made[0], night.made[2]]


def test_records_of_that_night_come_after_the_others(night, tmp_path):
    stems = [f"{now(night) + timedelta(days=days):%Y%m%d_%H%M%S}" for days in (40, 0, -1)]
    for stem in (*stems, "odd"):
        (tmp_path / f"{stem}.json").write_text("{}")
    found = [path.stem for path in dated_records(tmp_path, now(night))]
    assert found[:2] == stems[1:]
    assert set(found[2:]) == {stems[0], "odd"}


def test_a_prune_of_that_night_does_not_stop_those_after_it(night):
    """It ran by timer; from then on each prune would be refused until its date has come."""
    catalog = LocalCatalog(night.application, night.ports.clock)
    night.clock.wrong = timedelta(days=40)
    prune(night.application, night.ports, dry_run=False)
    night.clock.wrong = timedelta()
    done = prune(night.application, night.ports, dry_run=False)
    assert (done.status, done.record["refused"]) == (ExitStatus.DONE, None)
    assert "passed over, as dated in the future: the last prune" in night.notes[-1]
    night.notes.clear()
    assert prune(night.application, night.ports, dry_run=False).record["refused"] is None
    assert night.notes == []
    assert {item.name for item in catalog.list()} == set(night.made)


def test_a_deploy_of_that_night_takes_no_place_of_the_later_ones(night):
    """Of the backups that deploys make the newest stay: not the one of that night alone."""
    for wrong in (40, 0):
        night.clock.wrong = timedelta(days=wrong)
        backup(night.application, night.ports, name="before_deploy")
    forget_old_backups(night.application, night.ports, 1)
    catalog = LocalCatalog(night.application, night.ports.clock)
    assert len([item for item in catalog.list() if item.label == "before_deploy"]) == 2
    moments = [now(night) + timedelta(days=days) for days in (40, -1, -2)]
    records = [{"record": f"{moment:%Y%m%d_%H%M%S}_code.json"} for moment in moments]
    assert _latest(records, night.ports, 1) == [records[1], records[0]]
