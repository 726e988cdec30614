# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The law of dry runs: what they foresee is what happens, and they fail where the real run fails, nothing written.

Random situations, each from its number; TRADEKEEP_SITUATIONS asks for more of them.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.databases import optimize_databases
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree

SITUATIONS = int(os.environ.get("TRADEKEEP_SITUATIONS", "12"))
FILES = ("data/a.json", "data/b.log", "data/sub/c.txt", "data/vault.bin", "data/d.yaml", "keys/k.pem")
DATABASES = ("data/one.db", "data/two.ledger")
PROFILE: dict[str, Any] = {
    "name": "bot",
    "retention": {"keep_last": 2},
    "components": {
        "data": {
            "paths": ["data"],
            "directories": ["data", "data/sub"],
            "critical": True,
            "files": [{"pattern": "*.ledger", "kind": "sqlite"}],
            "directory_mode": "0750",
            "file_mode": "0640",
        },
        "keys": {"paths": ["keys"], "directories": ["keys"], "secret": True, "file_mode": "0600"},
    },
}


def make_database(place: Path, chance: random.Random) -> None:
    place.unlink(missing_ok=True)
    connection = sqlite3.connect(place)
    if chance.random() < 0.5:
        connection.execute("pragma journal_mode=wal")
    connection.execute("create table fills(id integer primary key, t text)")
    connection.executemany("insert into fills(t) values(?)", [("x",)] * chance.randrange(1, 60))
    if chance.random() < 0.3:
        connection.create_collation("TICKER", lambda a, b: (a > b) - (a < b))
        connection.execute("create table named(t text collate ticker primary key)")
    connection.commit()
    connection.close()


def fill(bench, chance: random.Random) -> None:
    for path in FILES:
        if chance.random() < 0.8:
            # Whole lines: the last one of a log that was written just now may not be whole, and is by and by.
            (bench.root / path).write_bytes(chance.randbytes(chance.randrange(0, 200)) + b"\n")
    for path in DATABASES:
        if chance.random() < 0.8:
            make_database(bench.root / path, chance)
    if chance.random() < 0.3:
        (bench.root / "data/link").symlink_to("a.json")
    if chance.random() < 0.3:
        (bench.root / "data/vault.bin-wal").write_bytes(b"frames")


def change(bench, chance: random.Random) -> None:
    """What may have become of the data since."""
    for path in sorted(bench.root.rglob("*")):
        what = chance.random()
        if not path.is_file() or path.is_symlink() or what > 0.5:
            continue
        if what < 0.15:
            path.unlink()
        elif what < 0.3:
            path.write_bytes(b"changed\n")
        elif what < 0.35:
            path.unlink()
            path.symlink_to("nowhere")
        elif what < 0.4:
            path.chmod(0o666)
        elif what < 0.45 and path.suffix in (".db", ".ledger"):
            make_database(path, chance)
        else:
            (path.parent / f"new-{path.name}").write_bytes(b"new\n")
    if chance.random() < 0.2:
        (bench.root / "data/sub/deeper").mkdir(exist_ok=True)
    if chance.random() < 0.15:
        moved = chance.choice(("data/sub", "data", "keys"))
        (bench.root / moved).rename(bench.base / "larger disk")
        (bench.root / moved).symlink_to(bench.base / "larger disk")


def foreign(bench, chance: random.Random) -> str:
    """An archive of the old scripts, now and then with a damaged database in it."""
    place = bench.base / "old"
    shutil.copytree(bench.root, place / "NAME", symlinks=True)
    for path in DATABASES:
        if (place / "NAME" / path).exists() and chance.random() < 0.3:
            (place / "NAME" / path).write_bytes((place / "NAME" / path).read_bytes()[:1500])
    subprocess.run(["tar", "-czf", bench.base / "old.tar.gz", "-C", place, "NAME"], check=True)
    return str(bench.base / "old.tar.gz")


class Failed(tuple):
    """An error, as far as two runs can be told apart by it."""


def outcome_of(work: Callable[[], Any], shown: Callable[[Any], Any]) -> Any:
    """What came of it, so that two runs compare: what was to be changed, or the error."""
    try:
        return shown(work())
    except TradekeepError as error:
        return Failed((type(error).__name__, error.message, error.path, error.hint))


def compare(bench, dry: Callable[[], Any], real: Callable[[], Any], shown: Callable[[Any], Any]) -> None:
    before = bench.snapshot()
    foreseen = outcome_of(dry, shown)
    assert bench.snapshot() == before
    assert outcome_of(real, shown) == foreseen
    if isinstance(foreseen, Failed):
        assert bench.snapshot() == before


def changes_of(outcome: Any) -> Any:
    return int(outcome.status), outcome.changed, [(item["path"], item["action"]) for item in outcome.record["changes"]]


@pytest.fixture
def situation(make_bench, request):
    chance = random.Random(request.param)
    bench = make_bench(PROFILE, owner="bot")
    bench.make_tree()
    fill(bench, chance)
    return bench, chance


numbered = pytest.mark.parametrize("situation", range(SITUATIONS), indirect=True)


@numbered
def test_a_restore_does_what_its_dry_run_foresees(situation):
    bench, chance = situation
    reference = foreign(bench, chance) if chance.random() < 0.4 else "latest"
    if reference == "latest":
        backup(bench.application, bench.ports)
    change(bench, chance)
    options: dict[str, Any] = {"reference": reference}
    if chance.random() < 0.3:
        options["paths"] = (chance.choice((*FILES, *DATABASES)),)
    elif chance.random() < 0.3:
        options["components"] = (chance.choice(("data", "keys")),)

    def run(dry_run: bool) -> Any:
        return restore(bench.application, bench.ports, dry_run=dry_run, **options)

    compare(bench, lambda: run(True), lambda: run(False), changes_of)
    if chance.random() < 0.3:
        # Once more: nothing is left to be done.
        compare(bench, lambda: run(True), lambda: run(False), changes_of)


@numbered
def test_a_migration_does_what_its_dry_run_foresees(situation):
    """From a directory of the old server's, or an archive of the old scripts, onto data of this one or none."""
    bench, chance = situation
    source = foreign(bench, chance)
    if chance.random() < 0.5:
        source = str(bench.base / "old/NAME")
    change(bench, chance)
    if chance.random() < 0.5:
        shutil.rmtree(bench.root)
        bench.make_tree()
    force = chance.random() < 0.5

    def run(dry_run: bool) -> Any:
        return migrate(bench.application, bench.ports, source=source, force=force, dry_run=dry_run)

    def shown(outcome: Any) -> Any:
        state = "migrated" if outcome.record["state"] == "planned" else outcome.record["state"]
        # A captured database differs from one capture to the next in its header.
        return int(outcome.status), state, changes_of(outcome)[2], outcome.record["against"]

    compare(bench, lambda: run(True), lambda: run(False), shown)


@numbered
def test_a_tree_is_mended_as_it_is_compared(situation):
    bench, chance = situation
    change(bench, chance)
    if chance.random() < 0.3:
        (bench.root / "keys").rename(bench.root / "elsewhere")
    if chance.random() < 0.2:
        os.link(next(path for path in bench.root.rglob("*") if path.is_file()), bench.root / "data/second-name")
    if chance.random() < 0.2 and (bench.root / "data/sub").is_dir():
        shutil.rmtree(bench.root / "data/sub")
        (bench.root / "data/sub").write_text("a file where a directory belongs")

    def shown(outcome: Any) -> Any:
        return outcome.changed or bool(outcome.status), outcome.before, outcome.after

    compare(
        bench,
        lambda: tree(bench.application, bench.ports, fix=False),
        lambda: tree(bench.application, bench.ports, fix=True),
        shown,
    )


@pytest.mark.parametrize("situation", range(max(1, SITUATIONS // 4)), indirect=True)
def test_a_prune_and_an_optimization_do_what_their_dry_runs_foresee(situation):
    bench, chance = situation
    for _day in range(chance.randrange(1, 5)):
        backup(bench.application, bench.ports)
    if chance.random() < 0.3:
        newest = next(iter(sorted(bench.backups.glob("*.json"))), None)
        assert newest is not None
        newest.write_text("{")

    def pruned(outcome: Any) -> Any:
        return int(outcome.status), outcome.changed, outcome.record

    def run_prune(dry_run: bool) -> Any:
        return prune(bench.application, bench.ports, dry_run=dry_run)

    compare(bench, lambda: run_prune(True), lambda: run_prune(False), lambda o: pruned(o)[:2])
    for path in DATABASES:
        if (bench.root / path).exists() and chance.random() < 0.2:
            (bench.root / path).write_bytes((bench.root / path).read_bytes()[:5000])

    def optimized(outcome: Any) -> Any:
        return [(item["path"], item["changed"], item["problem"]) for item in outcome.record["databases"]]

    before = bench.snapshot()
    foreseen = optimize_databases(bench.application, bench.ports, dry_run=True)
    assert bench.snapshot() == before
    assert optimized(optimize_databases(bench.application, bench.ports)) == optimized(foreseen)
