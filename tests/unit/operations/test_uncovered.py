# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data that no component covers is named, by whatever looks at the tree."""

from __future__ import annotations

import dataclasses
import os
import subprocess

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CaptureError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git.index_names import index_names
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import uncovered as module
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.uncovered import Uncovered, uncovered

FILLS = "databases/accounts/kalshi/demo/fills.db"


def names(bench, sort="recent"):
    return getattr(uncovered(bench.application, bench.ports), sort)


def put(bench, path, text="x", age=0):
    target = bench.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    os.utime(target, (target.stat().st_mtime - age * 86400,) * 2)
    return target


def ignoring(bench, *patterns):
    profile = dataclasses.replace(bench.application.profile, ignore_uncovered=patterns)
    bench.application = dataclasses.replace(bench.application, profile=profile)


def test_hazard_a3_a_database_that_no_component_covers_is_named(bench):
    bench.database("v2/fills.db").close()
    put(bench, "keys/exchange.pem")
    put(bench, "orders.csv")
    outcome = backup(bench.application, bench.ports)
    assert outcome.status == 0
    for name, what in (("v2/fills.db", "1 database"), ("keys/exchange.pem", "1 key"), ("orders.csv", "1 file")):
        (said,) = [text for text in outcome.record["warnings"] if name in text]
        assert said.startswith(f"not backed up, as no component covers it: {what}") and "ignore_uncovered" in said
        assert said in bench.notes and not any(said in line for line in outcome.lines), "it is said once"
        assert said in backup(bench.application, bench.ports, dry_run=True).record["warnings"]
        assert said in tree(bench.application, bench.ports, fix=False).record["notes"]
        assert said in tree(bench.application, bench.ports, fix=True).lines
        assert said in check_configuration(bench.application, bench.ports).lines
    checked = check_configuration(bench.application, bench.ports)
    # The other note is that there is no key to encrypt with.
    assert (checked.status, len(checked.record["warnings"]), len(checked.record["notes"])) == (1, 2, 2)


def test_that_it_could_not_be_looked_for_is_a_warning(bench, monkeypatch):
    def fails(*_arguments):
        raise CaptureError("ended early", path="/proc/1", hint="see journalctl")

    monkeypatch.setattr(module, "work_apart", fails)
    checked = check_configuration(bench.application, bench.ports)
    assert checked.status == 1
    (said,) = (text for text in checked.record["warnings"] if "ended early" in text)
    assert said.startswith("it was not looked for what no component covers") and "see journalctl" in said
    # The tree is made all the same.
    made = tree(bench.application, bench.ports, fix=True)
    assert said in made.lines and made.status == 0


def test_the_profile_ignores_it_in_so_many_words(bench):
    bench.database("v2/fills.db").close()
    put(bench, "v2/cache/orders.csv")
    put(bench, "keys/exchange.pem")
    ignoring(bench, "v2", "*.pem")
    assert uncovered(bench.application, bench.ports) == Uncovered()
    ignoring(bench, "v2/cache", "keys/**")
    assert uncovered(bench.application, bench.ports).counts == {"databases": 1}


def test_what_is_no_data_is_not_named(bench):
    put(bench, "venv/pyvenv.cfg")
    put(bench, "venv/lib/cacert.pem")
    put(bench, "node_modules/x/data.json")
    put(bench, "app/main.py")
    put(bench, "app/__pycache__/main.json")
    put(bench, "old/history.csv", age=30)
    put(bench, ".env.example")
    put(bench, ".gitignore")
    put(bench, "bot.pid")
    put(bench, "empty.csv", text="")
    put(bench, "state/new/in_a_component.json")
    (bench.root / "link.db").symlink_to(bench.root / "old/history.csv")
    assert uncovered(bench.application, bench.ports) == Uncovered()
    put(bench, "old.db", age=300)
    assert names(bench, "databases") == ["old.db"], "a database is one however old"


@pytest.mark.parametrize(("paths", "named"), [(["*"], []), (["*.db", "v*"], ["orders.csv"])])
def test_what_a_component_of_patterns_leaves_out_is_left_out_on_purpose(make_bench, paths, named):
    bench = make_bench({"name": "bot", "components": {"all": {"paths": paths, "exclude": ["*.db", "cache"]}}})
    bench.make_tree()
    for path in ("left.db", "v2/left.db", "v2/cache/orders.csv", "venv/old.csv", "orders.csv"):
        put(bench, path)
    found = uncovered(bench.application, bench.ports)
    assert (found.databases, found.recent) == ([], named)


def test_backups_and_state_below_the_root_are_ours(bench):
    bench.application = dataclasses.replace(
        bench.application,
        backup_dir=type(bench.application.backup_dir)(bench.root / "backups"),
        state_dir=type(bench.application.state_dir)(bench.root / "own/state"),
    )
    backup(bench.application, bench.ports)
    assert uncovered(bench.application, bench.ports) == Uncovered()


def git(bench, *arguments):
    settings = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", "-C", bench.root, *settings, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_in_a_checkout_what_git_does_not_track_is_named(bench, version):
    git(bench, "init")
    for number in range(30):
        put(bench, f"app/part_{number}/config.json")
    put(bench, "seed.db")
    put(bench, "later.json")
    git(bench, "add", "app", "seed.db")
    if version == "3":
        git(bench, "add", "--intent-to-add", "later.json")
    git(bench, "update-index", "--index-version", version)
    found = index_names((bench.root / ".git/index").read_bytes())
    assert len(found) == (32 if version == "3" else 31) and "app/part_7/config.json" in found
    put(bench, "app/signals.py")
    put(bench, "app/live.db")
    assert names(bench, "databases") == ["app/live.db"]
    assert names(bench) == ([] if version == "3" else ["later.json"]) + ["app/signals.py"]
    (bench.root / ".git/index").write_bytes(b"DIRC nothing of git's")
    assert "seed.db" in names(bench, "databases")


@pytest.mark.parametrize("data", [b"", b"DIRC" + bytes(8), b"DIRC\0\0\0\2\xff\xff\xff\xff" + bytes(200)])
def test_what_is_no_index_of_git(data):
    with pytest.raises(ValueError, match="no index"):
        index_names(data)


def test_it_ends_however_much_there_is(bench, monkeypatch):
    for number in range(40):
        put(bench, f"many/{number:02}.db")
    found = uncovered(bench.application, bench.ports)
    (said,) = found.warnings
    assert "40 databases: many/00.db, " in said and "many/04.db and 35 more" in said
    assert len(said) < 500
    monkeypatch.setattr(module, "MOST_LOOKED_AT", 20)
    assert not uncovered(bench.application, bench.ports).whole
    assert any(
        "not all of it was looked at" in text for text in backup(bench.application, bench.ports).record["warnings"]
    )
    monkeypatch.setattr(module, "MOST_LOOKED_AT", 20_000)
    monkeypatch.setattr(module, "MOST_SECONDS", -1.0)
    assert not uncovered(bench.application, bench.ports).whole


def test_names_that_another_process_says_are_bounded():
    names = {"databases": ["d" * 5000] * 500, "keys": [], "recent": [], "tracked": []}
    said = {**names, "counts": {"databases": 500}, "whole": True}
    found = Uncovered.of(said)
    assert len(found.databases) == 5 and len(found.databases[0]) == 120
    with pytest.raises(Exception, match="does not say"):
        Uncovered.of({"databases": 3})
