# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup directories on filesystems without hard links, symlinks and modes (exFAT, CIFS): everything works in them."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from datetime import timedelta
from pathlib import PurePosixPath

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Retention
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.rename import rename
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage import placing


class Later(SystemClock):
    def __init__(self, hours):
        self.hours = hours

    def now(self):
        return super().now() + timedelta(hours=self.hours)


@pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP])
def without_links(bench, tmp_path, monkeypatch, request):
    """As such a kernel answers: below the backup directory there are no links, and modes cannot be set."""

    def refusing(real, position):
        def call(*arguments, **options):
            if str(arguments[position]).startswith((str(bench.backups), str(tmp_path / "moved"))):
                raise OSError(request.param, os.strerror(request.param), str(arguments[position]))
            return real(*arguments, **options)

        return call

    for name, position in (("link", 1), ("symlink", 1), ("chmod", 0)):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), position))
    bench.backups.mkdir(mode=0o700, exist_ok=True)
    profile = dataclasses.replace(bench.application.profile, retention=Retention(keep_last=2))
    bench.application = dataclasses.replace(bench.application, profile=profile)
    return bench


def at(bench, hours):
    return dataclasses.replace(bench.ports, clock=Later(hours))


def test_backups_are_made_pruned_and_restored_without_links(without_links, tmp_path):
    bench, application = without_links, without_links.application
    bench.database().close()
    for hours in (0, 1, 2):
        assert backup(application, at(bench, hours)).status == ExitStatus.DONE
    assert prune(application, at(bench, 3), dry_run=False).status == ExitStatus.DONE
    listed = list_backups(application, at(bench, 3))
    assert (listed.status, len(listed.record["backups"])) == (ExitStatus.DONE, 2)
    assert all(item["good"] for item in listed.record["backups"])
    assert verify(application, at(bench, 3), reference="all", deep=True).status == ExitStatus.DONE
    assert recover(application, at(bench, 3)).status == ExitStatus.DONE
    assert restore(application, at(bench, 3), reference="latest", to=str(tmp_path / "out")).changed
    connection = bench.database(rows=7)
    connection.close()
    assert restore(application, at(bench, 4), reference="latest").changed
    assert bench.rows() == 100
    said = [note for note in bench.notes if "symlinks" in note]
    assert len(said) == 1
    left = {name.rpartition(".")[2] for name in os.listdir(bench.backups)}
    assert left == {"gz", "sha256", "json"}


def test_backups_go_to_such_a_directory(without_links, tmp_path):
    bench = without_links
    made = backup(bench.application, bench.ports).record["backup"]["name"]
    moved = dataclasses.replace(bench.application, backup_dir=PurePosixPath(tmp_path / "moved"))
    (tmp_path / "moved").mkdir(mode=0o700)
    file = bench.base / "etc/kalshi.json"
    file.parent.mkdir()
    file.write_text(render_configuration(bench.application))
    rename(moved, bench.ports)
    assert [item["name"] for item in list_backups(moved, bench.ports).record["backups"]] == [made]


def test_hazard_b1_a_name_goes_to_one_of_two_where_there_are_no_links(without_links):
    """Two hosts at the same moment: the second sees no name when it looks, and finds it taken when it takes it."""
    final = without_links.backups / "bot_20260301_120000.tar.gz.json"
    first, second = (without_links.backups / f".tradekeep-{number}.part" for number in (1, 2))

    def in_between(path):
        if not final.exists():
            placing.write_new(final, json.dumps({"host": "alpha"}).encode(), first)
        return False

    with pytest.raises(FileExistsError), pytest.MonkeyPatch.context() as patched:
        patched.setattr(os.path, "lexists", in_between)
        in_between(final)
        placing.write_new(final, json.dumps({"host": "beta"}).encode(), second)
    assert json.loads(final.read_text()) == {"host": "alpha"}
    assert os.listdir(without_links.backups) == [final.name]
