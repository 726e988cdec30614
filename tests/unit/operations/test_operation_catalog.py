# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog file is a cache of knowledge: without it operations go on, but nothing is removed on a guess."""

from __future__ import annotations

import dataclasses
import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Retention
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.signals import interruptible
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage import local


class AnHourLater(SystemClock):
    def now(self):
        return super().now() + timedelta(hours=1)


def test_hazard_b4_a_damaged_catalog_stops_prune_until_the_backups_are_verified(bench):
    profile = dataclasses.replace(bench.application.profile, retention=Retention(keep_last=1))
    application = dataclasses.replace(bench.application, profile=profile)
    old = backup(application, bench.ports).record["backup"]["name"]
    later = dataclasses.replace(bench.ports, clock=AnHourLater())
    catalog = Path(application.application_state_dir) / "catalog.json"
    catalog.write_bytes(catalog.read_bytes()[:-20])
    assert not bench.notes
    assert backup(application, later).changed
    assert ["damaged" in note for note in bench.notes] == [True, True]
    assert len(list(catalog.parent.glob("catalog.json.damaged-*"))) == 1
    refused = prune(application, later, dry_run=False)
    assert refused.status == ExitStatus.FINDINGS
    assert "verify all" in refused.record["refused"]
    assert len(list_backups(application, later).record["backups"]) == 2
    assert verify(application, later, reference="all").status == ExitStatus.DONE
    assert prune(application, later, dry_run=False).record["removed"] == [old]
    assert "lost" not in catalog.read_text()


def test_a_backup_without_its_link_is_a_finding_and_no_failure(bench, monkeypatch):
    def full(link, target, temporary):
        raise OSError(28, "No space left on device", str(link))

    with monkeypatch.context() as patched:
        patched.setattr(local, "point_link", full)
        outcome = backup(bench.application, bench.ports)
    assert (outcome.changed, outcome.status) == (True, ExitStatus.FINDINGS)
    assert "the backup is made, but: " in outcome.record["warnings"][-1]
    assert any("the backup is made, but: " in line for line in outcome.lines)
    made = outcome.record["backup"]["name"]
    assert verify(bench.application, bench.ports, reference="latest").record["backups"][0]["name"] == made
    assert backup(bench.application, bench.ports).status == ExitStatus.DONE
    assert len([path for path in bench.backups.iterdir() if path.is_symlink()]) == 1


@pytest.mark.parametrize("moment", ["give_name", "point_link"])
def test_a_signal_that_comes_after_the_name_is_too_late(bench, monkeypatch, moment):
    honest = getattr(local, moment)

    def signalled(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return honest(*given)

    with monkeypatch.context() as patched, interruptible():
        patched.setattr(local, moment, signalled)
        assert backup(bench.application, bench.ports).status == ExitStatus.DONE
