# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releasing named backups: what the command says becomes of them is what the next prune does."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Retention
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import UsageError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.release import release
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog


def application_keeping(bench, retention):
    profile = dataclasses.replace(bench.application.profile, retention=retention)
    return dataclasses.replace(bench.application, profile=profile)


def test_a_released_backup_is_pruned_as_any_other(bench):
    application = application_keeping(bench, Retention(keep_last=1))
    old = backup(application, bench.ports, name="old").record["backup"]["name"]
    backup(application, bench.ports)
    assert prune(application, bench.ports, dry_run=False).record["removed"] == []
    planned = release(application, bench.ports, reference="old", dry_run=True)
    assert planned.changed
    assert planned.record == {"backup": old, "pinned": True, "keep": False, "reasons": ["no rule keeps it"]}
    assert LocalCatalog(application, bench.ports.clock).find(old).pinned
    done = release(application, bench.ports, reference="old")
    assert done.changed
    assert done.record == {**planned.record, "pinned": False}
    assert done.lines == (f"{old}: released; the next prune removes it: no rule keeps it",)
    again = release(application, bench.ports, reference="old")
    assert not again.changed
    assert again.record == done.record
    assert prune(application, bench.ports, dry_run=False).record["removed"] == [old]


def test_a_release_says_which_rule_keeps_the_backup(bench):
    application = application_keeping(bench, Retention(keep_last=3))
    backup(application, bench.ports, name="old")
    assert release(application, bench.ports, reference="old").lines[0].endswith("keeps it: newest good, last")


def test_only_backups_that_can_be_pruned_can_be_released(bench, tmp_path):
    with pytest.raises(UsageError, match="no such backup"):
        release(bench.application, bench.ports, reference="nothing")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    made = backup(bench.application, bench.ports, name="away", output=str(tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match="not in the backup directory"):
        release(bench.application, bench.ports, reference=made.record["backup"]["path"])
