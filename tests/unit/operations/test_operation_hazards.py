# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hazards that show in whole operations only: keys that repeat, failures on their way out, owners of another host."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import sqlite3
import tarfile

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Entry
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import EncryptionError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SEARCH_PATH, SubprocessRunner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import rights
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore

FILLS = "databases/accounts/kalshi/demo/fills.db"
OWNER, GROUP = 4001, 4002


def test_hazard_a5_rows_with_the_same_null_key_all_come_back(bench):
    with contextlib.closing(sqlite3.connect(bench.root / FILLS)) as connection:
        connection.execute("CREATE TABLE fills (id TEXT PRIMARY KEY, price INTEGER)")
        connection.executemany("INSERT INTO fills VALUES (NULL, ?)", [(price,) for price in range(50)])
        connection.commit()
    made = backup(bench.application, bench.ports).record["backup"]
    with tarfile.open(made["path"]) as archive:
        entries = json.load(archive.extractfile("MANIFEST.json"))["entries"]
    assert next(entry["facts"]["tables"] for entry in entries if entry["path"] == FILLS) == {"fills": 50}
    (bench.root / FILLS).write_bytes(b"")
    restore(bench.application, bench.ports)
    with contextlib.closing(sqlite3.connect(bench.root / FILLS)) as connection:
        assert connection.execute("SELECT id, price FROM fills ORDER BY price").fetchall() == [
            (None, price) for price in range(50)
        ]


def run(bench, *words):
    """The command as a timer runs it: exit status and the answer of ``--json``."""
    out = io.StringIO()
    configured = ["--config", str(bench.base / "etc" / "kalshi.json"), "--json"]
    status = cli.main([*configured, *words], config_dir=str(bench.base / "etc"), stdout=out, stderr=io.StringIO())
    return status, json.loads(out.getvalue())


def test_hazard_b3_one_failed_database_is_the_exit_status_of_the_whole(bench):
    install_configuration(bench.application)
    bench.database().close()
    assert run(bench, "backup", "--tier", "daily")[0] == 0
    before = sorted(os.listdir(bench.backups))
    (bench.root / FILLS).write_bytes(b"not a database" * 100)
    status, answer = run(bench, "backup", "--tier", "daily")
    assert status == answer["exit_status"] != 0
    assert answer["error"]["path"].endswith("fills.db")
    assert sorted(os.listdir(bench.backups)) == before


def test_hazard_b3_a_last_stage_that_fails_after_writing_fails_the_backup(make_bench, tmp_path):
    """As in `tar | gpg`: the output is whole, and the status of the last stage alone says that something failed."""
    programs = tmp_path / "programs"
    programs.mkdir()
    gpg = programs / "gpg"
    gpg.write_text(f'#!/bin/sh\nPATH={SEARCH_PATH} gpg "$@" || exit\ncase "$*" in *--symmetric*) exit 2;; esac\n')
    gpg.chmod(0o755)
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("long enough\n")
    passphrase.chmod(0o600)
    bench = make_bench(passphrase_file=str(passphrase))
    bench.make_tree()
    ports = dataclasses.replace(bench.ports, runner=SubprocessRunner(search_path=f"{programs}:{SEARCH_PATH}"))
    with pytest.raises(EncryptionError):
        backup(bench.application, ports, encrypt=True)
    assert not bench.backups.exists() or os.listdir(bench.backups) == []


@pytest.mark.parametrize(
    ("path", "owner", "expected"),
    [
        pytest.param("state/known.json", "#0", (OWNER, GROUP), id="of a component"),
        pytest.param("state/known.json", "there", (OWNER, GROUP), id="of a component, whatever the backup says"),
        pytest.param("unknown/file", "#0", (OWNER, GROUP), id="a number of another host"),
        pytest.param("unknown/file", "nobody_of_this_name", (OWNER, GROUP), id="a name of another host"),
        pytest.param("unknown/file", "there", (OWNER, GROUP), id="a name of another account of this host"),
        pytest.param("unknown/file", "root", (OWNER, GROUP), id="root"),
    ],
)
def test_hazard_c3_owners_go_by_name_and_never_fall_to_root(bench, tmp_path, monkeypatch, path, owner, expected):
    staged = tmp_path / "staged"
    staged.write_text("{}")
    given = []
    here = {bench.application.owner: OWNER, "there": 5001, "root": 0, "#0": 0}
    monkeypatch.setattr(rights, "uid_of", here.__getitem__)
    monkeypatch.setattr(rights, "gid_of", {**here, bench.application.group: GROUP}.__getitem__)
    monkeypatch.setattr(rights, "give_owner_mode", lambda _, *, uid, gid, mode: given.append((uid, gid)))
    application = dataclasses.replace(bench.application, system=True)
    rights.give_rights(application, Entry(path, "file", mode=0o600, owner=owner, group=owner), str(staged))
    assert given == [expected]
