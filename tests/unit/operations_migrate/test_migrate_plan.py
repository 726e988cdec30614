# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a migration would do is said in full, and nothing at all is written for it."""

from __future__ import annotations

import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus
from operations_migrate.servers import FILLS, PEM, PREFERENCES, listing


def test_hazard_e_a_dry_run_writes_nothing_at_all(old: Any, new: Any) -> None:
    writer = old.database(rows=7)
    archive = old.back_up()
    before = listing(old.base), listing(new.base)
    for source in (old.root, archive):
        planned = new.migrate(source, dry_run=True)
        assert planned.status is ExitStatus.DONE
        assert planned.changed
        assert planned.record["state"] == "planned"
        # The template of the new server is nobody's work: it gives way.
        assert planned.record["plan"]["conflicts"] == []
        assert planned.record["plan"]["differs"] == [PREFERENCES]
        assert {FILLS, "preferences/own.json"} <= set(planned.record["plan"]["new"])
        assert "nothing was written" in planned.lines[-1]
    assert (listing(old.base), listing(new.base)) == before
    writer.close()


def test_a_plan_names_what_happens_to_each_path(old: Any, new: Any) -> None:
    new.write("preferences/own.json", '{"kept": false}')
    new.write("preferences/mine.json", "{}")
    (old.root / "preferences/leads_out").symlink_to("/etc/passwd")
    (old.root / "notes").mkdir()
    (old.root / "notes/todo.txt").write_text("x")
    (old.root / "start.sh").write_text("x")
    planned = new.migrate(old.root, dry_run=True)
    plan = planned.record["plan"]
    assert planned.status is ExitStatus.FAILED
    assert plan["conflicts"] == ["preferences/mine.json", "preferences/own.json"]
    assert plan["only_on_target"] == ["preferences/mine.json"]
    assert plan["refused"] == [{"path": "preferences/leads_out", "why": "a symlink that leads out of the data"}]
    assert plan["left"] == ["notes/", "start.sh"]
    assert plan["same"] > 0
    said = "\n".join(planned.lines)
    for line in (
        "against it: preferences/own.json: differs on this host",
        "against it: preferences/mine.json: is on this host only",
        "against it: preferences/leads_out: refused, a symlink that leads out of the data",
        "? notes/  left: in no component of the profile",
    ):
        assert line in said


@pytest.mark.parametrize(
    "layout", ["", "user_data", "user_data_20250728_143022", "user_data_20250728_143022/user_data"]
)
def test_the_data_is_found_in_what_the_old_scripts_left(old: Any, new: Any, tmp_path: Path, layout: str) -> None:
    unpacked = tmp_path / "unpacked"
    target = unpacked / layout
    target.parent.mkdir(parents=True, exist_ok=True)
    old.root.rename(target)
    assert new.migrate(unpacked, dry_run=True).record["source"]["root"] == str(target)
    assert new.migrate(unpacked).record["state"] == "migrated"
    assert new.rows() == 100


@pytest.mark.parametrize("layout", ["user_data_20250728_143022", "user_data_20250728_143022/user_data"])
def test_hazard_c4_archives_of_the_old_scripts_migrate_with_their_wal(
    old: Any, new: Any, tmp_path: Path, layout: str
) -> None:
    writer = old.database(rows=11)
    archive = tmp_path / "user_data_20250728_143022.tar.gz"
    with tarfile.open(archive, "w:gz") as made:
        made.add(old.root, arcname=layout)
    writer.close()
    done = new.migrate(archive)
    assert done.record["source"]["weaker_checks"]
    assert done.record["holds"]["databases"][FILLS]["tables"] == {"fills": 111}
    assert new.rows() == 111
    assert new.migrate(archive).record["state"] == "unchanged"


def test_a_live_source_is_captured_and_left_as_it_was(old: Any, new: Any) -> None:
    writer = old.database(rows=20)
    before = listing(old.root)
    done = new.migrate(old.root)
    assert done.record["state"] == "migrated"
    assert new.rows() == 120
    assert listing(old.root) == before
    assert (old.root / f"{FILLS}-wal").exists()
    writer.close()


def test_the_same_migration_twice_does_nothing_the_second_time(old: Any, new: Any) -> None:
    for source in (old.root, old.back_up()):
        new.migrate(source)
        before = listing(new.root)
        again = new.migrate(source)
        assert (again.changed, again.status, again.record["state"]) == (False, ExitStatus.DONE, "unchanged")
        assert listing(new.root) == before


def test_owners_and_modes_are_those_of_the_profile(old: Any, new: Any) -> None:
    for path in (old.root / "credentials").rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    for source in (old.back_up(), old.root):
        changes = {item["path"]: item["after"] for item in new.migrate(source, dry_run=True).record["changes"]}
        assert changes[PEM]["mode"] == "0600"
    done = new.migrate(old.root)
    assert done.record["state"] == "migrated"
    key = new.root / "credentials/kalshi/demo/kalshi.pem"
    assert oct(key.stat().st_mode)[-3:] == "600"
    assert oct((new.root / FILLS).stat().st_mode)[-3:] == "600"
    assert oct((new.root / PREFERENCES).stat().st_mode)[-3:] == "644"
    assert key.stat().st_mtime_ns == (old.root / "credentials/kalshi/demo/kalshi.pem").stat().st_mtime_ns


def test_a_source_without_a_component_leaves_that_component_alone(old: Any, new: Any, tmp_path: Path) -> None:
    new.database(rows=5).close()
    part = tmp_path / "part"
    part.mkdir()
    (old.root / "preferences").rename(part / "preferences")
    done = new.migrate(part, force=True)
    assert done.record["state"] == "migrated"
    assert done.record["preflight"][1]["state"] == "failed"
    assert new.rows() == 5
    with sqlite3.connect(new.root / FILLS) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
