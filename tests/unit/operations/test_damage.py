# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is damage and what is not: stray files stop no backup, what matters does, and what was backed up comes back."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ArchiveError, CaptureError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.formatting import output_line, pasted
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import damage
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.databases import check_databases
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore_plan import _covers
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from hypothesis import given
from hypothesis import strategies as st

APPLE_DOUBLE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(139)


def profile(*rules: dict, **more) -> dict:
    component = {"paths": ["data"], "directories": ["data"], "critical": True, "files": list(rules)}
    return {"name": "bot", "components": {"data": component}, **more}


@pytest.fixture
def make(make_bench):
    def made(*rules: dict, **more):
        bench = make_bench(profile(*rules, **more), owner="bot")
        bench.make_tree()
        return bench

    return made


def database(bench, name: str = "fills.db", rows: int = 100) -> Path:
    bench.database(f"data/{name}", rows=rows, wal=False).close()
    return bench.root / "data" / name


def held(made) -> dict[str, bytes]:
    with tarfile.open(made.record["backup"]["path"]) as archive:
        return {item.name: archive.extractfile(item).read() for item in archive if item.isfile()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("._fills.db", APPLE_DOUBLE),
        ("prices.db", b"\x01\x02\x03\x04\x05\x06\x07\x08DUCK" + bytes(5000)),
        ("stray.db", b""),
        ("tradesv3.dryrun.sqlite", b""),
        ("notes.sqlite3", b"no database at all\n"),
    ],
)
@pytest.mark.parametrize(
    "rules", [(), ({"pattern": "*.db", "kind": "sqlite"}, {"pattern": "*.sqlite", "kind": "sqlite"})]
)
def test_a_stray_file_with_the_name_of_a_database_is_kept_as_it_is(make, name, content, rules):
    bench = make(*rules)
    database(bench)
    (bench.root / "data" / name).write_bytes(content)
    for _night in range(2):
        made = backup(bench.application, bench.ports)
        assert made.status == 0 and held(made)[f"data/{name}"] == content
        assert sum(f"data/{name}: kept byte for byte" in text for text in made.record["warnings"]) == 1
    assert check_databases(bench.application, bench.ports).status == 0
    assert verify(bench.application, bench.ports, reference="latest", deep=True).status == 0
    assert drill(bench.application, bench.ports).record["verdict"] == "passed"
    (bench.root / "data" / name).unlink()
    restore(bench.application, bench.ports)
    assert (bench.root / "data" / name).read_bytes() == content


def test_a_damaged_database_that_nothing_speaks_for_stops_no_backup_and_is_a_finding_once(make):
    bench = make()
    database(bench)
    damaged = b"SQLite format 3\0" + b"\xff" * 8000
    (bench.root / "data/old.db").write_bytes(damaged)
    first, second = (backup(bench.application, bench.ports) for _night in range(2))
    assert (first.status, second.status) == (1, 0)
    assert held(second)["data/old.db"] == damaged and "kept byte for byte" in str(second.record["warnings"])
    assert check_databases(bench.application, bench.ports).status == 1


@pytest.mark.parametrize("content", [b"", APPLE_DOUBLE, b"SQLite format 3\0" + b"\xff" * 8000])
@pytest.mark.parametrize("required", [True, False])
def test_hazard_a3_what_is_required_or_was_good_fails_the_backup_and_the_way_back_is_named(make, content, required):
    bench = make(*([{"pattern": "data/fills.db", "kind": "sqlite", "required": True}] if required else []))
    place = database(bench)
    made = backup(bench.application, bench.ports)
    place.write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        backup(bench.application, bench.ports)
    assert caught.value.path == str(place)
    words = shlex.split(caught.value.hint.partition("tradekeep restore ")[2])
    assert words == [made.record["backup"]["name"], "--path", "data/fills.db"]
    restore(bench.application, bench.ports, reference=words[0], paths=(words[2],))
    assert bench.rows("data/fills.db") == 100


@given(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=30))
def test_the_hint_names_that_path_alone_when_it_is_pasted(text):
    path = "/".join(part for part in text.split("/") if part not in ("", ".", "..")) or "a"
    shown = output_line(pasted(damage._as_glob(path)))
    (glob,) = shlex.split(shown)
    assert not glob.startswith("-") and _covers(glob, path)
    assert not _covers(glob, f"elsewhere/{path}")
    assert not any(_covers(glob, path.replace(sign, "xy", 1)) for sign in "*?[" if sign in path)


def test_hazard_a3_a_hint_names_no_backup_where_there_is_none(make):
    bench = make({"pattern": "data/fills.db", "kind": "sqlite", "required": True})
    (bench.root / "data/fills.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    with pytest.raises(CaptureError) as caught:
        backup(bench.application, bench.ports)
    assert "tradekeep restore" not in str(caught.value) and "last good backup" not in str(caught.value)
    assert "no backup holds it" in caught.value.hint


# What the profile requires


def settled(place: Path, content: bytes) -> None:
    """Written a while ago: nobody is about to finish it."""
    place.write_bytes(content)
    before = time.time() - 60
    os.utime(place, (before, before))


@pytest.fixture
def at_once(monkeypatch):
    """A document that was written this instant counts as left alone."""
    from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import json_document

    monkeypatch.setattr(json_document, "is_settled", lambda _changed: True)


UTF_16 = {
    name: text.encode("utf-16")
    for name, text in {"a.json": '{"a": "x"}', "b.yaml": "a: 1\n", ".env": "KEY=1\n"}.items()
}


def test_documents_in_utf_16_are_documents_from_the_capture_to_the_drill(make, at_once):
    bench = make(*({"pattern": f"data/{name}", "required": True} for name in UTF_16))
    for name, content in UTF_16.items():
        (bench.root / "data" / name).write_bytes(content)
    made = backup(bench.application, bench.ports)
    assert made.status == 0 and "damaged" not in str(made.record)
    assert verify(bench.application, bench.ports, reference="latest", deep=True).status == 0
    assert drill(bench.application, bench.ports).status == 0
    for name in UTF_16:
        (bench.root / "data" / name).write_bytes(b"gone")
    restore(bench.application, bench.ports, reference="latest")
    assert {name: (bench.root / "data" / name).read_bytes() for name in UTF_16} == UTF_16


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("portfolio.json", '{"cash": 1000}'.encode("utf-16"), '{"cash": 10'.encode("utf-16")),
        ("production.yaml", "a: 1\n".encode("utf-16"), b"\xff\xfe" + bytes(6)),
        (".env", "KEY=1\n".encode("utf-16"), "KEY=1\n".encode("utf-16")[:-1]),
        ("portfolio.json", b'{"cash": 1000}', b'{"cash": 10'),
        ("production.yaml", b"a: 1\n", bytes(5)),
        (".env", b"KEY=1\n", b"  \n\n"),
    ],
    ids=["json-16", "yaml-16", "env-16", "json", "yaml", "env"],
)
def test_hazard_b4_a_backup_of_a_damaged_document_that_is_required_is_marked_and_never_counts(
    make, at_once, name, good, bad
):
    bench = make({"pattern": f"data/{name}", "required": True}, retention={"keep_last": 1})
    place = bench.root / "data" / name
    place.write_bytes(good)
    first = backup(bench.application, bench.ports).record["backup"]["name"]
    for _night in range(3):
        place.write_bytes(bad)
        with pytest.raises(CaptureError, match="the profile requires it, and it is damaged") as caught:
            backup(bench.application, bench.ports)
        assert caught.value.exit_status == 3 and caught.value.path == str(place)
        assert f"tradekeep restore {first} --path data/{name}" in caught.value.hint
    backups = list_backups(bench.application, bench.ports).record["backups"]
    assert [item["good"] for item in backups] == [False, False, False, True]
    assert all("damaged when it was made" in item["problem"] for item in backups[:3])
    assert os.readlink(bench.backups / "latest_backup.tar.gz") == first
    prune(bench.application, bench.ports, dry_run=False)
    restore(bench.application, bench.ports)
    assert place.read_bytes() == good
    assert backup(bench.application, bench.ports).status == 0
    place.write_bytes(bad)
    allowed = backup(bench.application, bench.ports, allow_loss=(f"data/{name}",))
    assert allowed.status == 0 and allowed.record["backup"]["good"]


def test_a_document_that_nothing_requires_is_a_warning_as_before(make, at_once):
    bench = make()
    (bench.root / "data/notes.json").write_bytes(b'{"a": ')
    made = backup(bench.application, bench.ports)
    assert made.status == 0 and "malformed" in str(made.record["warnings"])


# What was accepted restores


def misfit_index(place: Path) -> None:
    """All rows are there and an index lacks some: only a full check finds it."""
    connection = sqlite3.connect(place)
    connection.executescript("create index by_trade on fills(trade_id)")
    connection.execute("pragma writable_schema=1")
    connection.execute("update sqlite_master set sql = 'CREATE INDEX by_trade ON fills(id)' where name = 'by_trade'")
    connection.commit()
    connection.close()


def test_hazard_c1_what_a_quick_check_accepted_is_restored_with_its_findings(make, tmp_path):
    bench = make()
    place = database(bench)
    misfit_index(place)
    assert backup(bench.application, bench.ports).status == 0
    assert verify(bench.application, bench.ports, reference="latest", deep=True).status == 0
    drilled = drill(bench.application, bench.ports)
    assert drilled.record["verdict"] == "passed" and "was so when it was backed up" in str(drilled.lines)
    restore(bench.application, bench.ports, to=str(tmp_path / "apart"))
    place.unlink()
    restore(bench.application, bench.ports, dry_run=True)
    restore(bench.application, bench.ports)
    assert bench.rows("data/fills.db") == 100
    assert any("was so when it was backed up" in note for note in bench.notes)


def test_hazard_c1_a_damaged_database_of_an_old_archive_needs_a_word_and_a_dry_run_says_so(make, tmp_path):
    bench = make()
    place = database(bench)
    old = tmp_path / "old"
    shutil.copytree(bench.root, old)
    (old / "data/fills.db").write_bytes(place.read_bytes()[:1500])
    subprocess.run(["tar", "-czf", tmp_path / "o.tar.gz", "-C", tmp_path, "old"], check=True)
    before, archive = bench.snapshot(), str(tmp_path / "o.tar.gz")
    for options in ({"dry_run": True}, {}, {"to": str(tmp_path / "x"), "dry_run": True}, {"to": str(tmp_path / "y")}):
        with pytest.raises(ArchiveError, match="fills") as caught:
            restore(bench.application, bench.ports, reference=archive, **options)
        assert "--accept-damage" in caught.value.hint
        assert bench.snapshot() == before
    assert restore(bench.application, bench.ports, reference=archive, dry_run=True, accept_damage=True).changed
    restore(bench.application, bench.ports, reference=archive, accept_damage=True)
    assert place.stat().st_size == 1500
    assert any("restored as the backup has it, which is damaged" in note for note in bench.notes)


def test_an_old_archive_of_a_mac_restores_verifies_and_drills(make, tmp_path):
    bench = make()
    database(bench)
    shutil.copytree(bench.root, tmp_path / "old")
    (tmp_path / "old/data/._fills.db").write_bytes(APPLE_DOUBLE)
    archive = bench.backups / "bot_20260101_000000.tar.gz"
    bench.backups.mkdir(exist_ok=True)
    subprocess.run(["tar", "-czf", archive, "-C", tmp_path, "old"], check=True)
    assert verify(bench.application, bench.ports, reference=str(archive), deep=True).status == 0
    restore(bench.application, bench.ports, reference=str(archive))
    assert (bench.root / "data/._fills.db").read_bytes() == APPLE_DOUBLE


# Files that only grow


TICKER = """
import sys, time
f = open(sys.argv[1], "a", buffering=1)
print("ready", flush=True)
while True:
    f.write(sys.argv[2]); time.sleep(.002)
"""


@pytest.mark.parametrize(
    ("name", "begun", "line"),
    [
        ("ticks.csv", b"ts,pair\n" + b"1764430000,BTC-USD,90000.1,3\n" * 300_000, "1764430000,BTC-USD\n"),
        ("small.csv", b"ts,pair\n", "1764430000,BTC-USD\n"),
        ("open.json", b"[\n", '{"a": 1},\n'),
    ],
    ids=["large", "small", "array"],
)
def test_a_file_that_only_grows_is_taken_up_to_a_line(make, name, begun, line):
    bench = make()
    place = bench.root / "data" / name
    place.write_bytes(begun)
    bot = subprocess.Popen([sys.executable, "-c", TICKER, str(place), line], stdout=subprocess.PIPE)
    try:
        bot.stdout.readline()
        made = backup(bench.application, bench.ports)
    finally:
        bot.kill()
        bot.communicate()
    content = held(made)[f"data/{name}"]
    assert content.startswith(begun) and content.endswith(b"\n") and place.read_bytes().startswith(content)
    assert made.status == 0
    assert verify(bench.application, bench.ports, reference="latest", deep=True).status == 0
    assert restore(bench.application, bench.ports).changed


def test_what_is_overwritten_all_the_time_is_refused_and_the_ways_out_are_said(make, monkeypatch):
    from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import plain_file

    bench = make()
    (bench.root / "data/ring.bin").write_bytes(b"x")
    monkeypatch.setattr(plain_file, "read_once", lambda *_arguments: (None, None, True))
    monkeypatch.setattr(plain_file, "pauses", lambda _context: iter(range(2)))
    monkeypatch.setattr(plain_file, "capture_growing", lambda *_arguments, **_options: None)
    with pytest.raises(CaptureError, match="keeps changing") as caught:
        plain_file.PlainFileKind().capture(
            bench.root / "data/ring.bin", type("C", (), {"attempts": 2, "copy_first": False})()
        )
    assert "kind: log" in caught.value.hint and "stop the service" in caught.value.hint


def test_the_way_out_of_an_exclusive_lock_is_said(make, tmp_path):
    from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.base import CaptureContext
    from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.sqlite import SqliteKind

    bench = make()
    place = database(bench)
    child = (
        "import sqlite3,sys,time\nc=sqlite3.connect(sys.argv[1]);c.execute('pragma locking_mode=exclusive')\n"
        "c.execute('insert into fills(trade_id) values(1)');c.commit();print('ready',flush=True);time.sleep(60)"
    )
    bot = subprocess.Popen([sys.executable, "-c", child, str(place)], stdout=subprocess.PIPE)
    try:
        bot.stdout.readline()
        with pytest.raises(CaptureError, match="locked") as caught:
            SqliteKind().capture(place, CaptureContext(tmp_path, bench.ports.clock, deadline_seconds=0.3))
    finally:
        bot.kill()
        bot.communicate()
    assert "stop the service" in caught.value.hint and "EXCLUSIVE" in caught.value.hint


def test_the_directory_of_lost_files_stops_nothing_and_stays_roots(make, monkeypatch):
    """It is root's at the top of a disk; here as the owner of the data sees it."""
    bench = make()
    database(bench)
    lost = bench.root / "data/lost+found"
    lost.mkdir(mode=0o700)
    real = os.scandir

    def scandir(path="."):
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    made = backup(bench.application, bench.ports)
    assert made.status == 0 and "data/lost+found: the filesystem's own" in str(made.record["warnings"])
    with tarfile.open(made.record["backup"]["path"]) as archive:
        assert "data/lost+found" not in archive.getnames()
    tree(bench.application, bench.ports, fix=True)
    assert oct(lost.stat().st_mode).endswith("700")
