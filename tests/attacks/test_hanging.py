# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a bot's that are made to hold whoever reads them: for ever, or until the disk or the memory is full."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import CheckLevel
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import manifest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ArchiveError,
    CaptureError,
    InterruptedBySignal,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import (
    bounded,
    json_document,
    jsonl,
    kind_named,
    sqlite,
    sqlite_database,
    sqlite_live,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.base import CaptureContext
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import assemble, found, scan
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.databases import check_databases
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.signals import interruptible
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage import local
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.lock import application_lock

BOT = 54329
DATABASE = "data/x.db"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, beside an account that is not")

SLOW_ROW = 60_000_000
"""Bytes that SQLite writes as hexadecimal digits for each row: half a second."""


class Bench:
    """An application without anything of the system, and the account that its data belongs to."""

    def __init__(self, base: Path) -> None:
        self.notes: list[str] = []
        notes = self.notes

        class Progress(NoProgress):
            def note(self, text: str) -> None:
                notes.append(text)

        self.ports = Ports(SubprocessRunner(), SystemClock(), Progress())
        self.application = resolve_application(
            {"name": "bot", "components": {"data": {"paths": ["data"]}}},
            become=False,
            root=str(base / "root"),
            **{name: str(base / name) for name in ("backup_dir", "state_dir", "config_dir", "bin_dir")},
        )
        tree(self.application, self.ports, fix=True)
        self.root = base / "root"
        self.database = self.root / DATABASE
        self.database.parent.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            for path in (self.root, self.database.parent):
                os.chown(path, BOT, BOT)

    def as_bot(self, work: Callable[[], Any]) -> None:
        """In a process that has nothing but the bot's rights."""

        def become() -> None:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(BOT, BOT, BOT)
                os.setresuid(BOT, BOT, BOT)
            work()

        assert in_time(20, become) is None

    def rows(self, count: int = 100) -> None:
        self.as_bot(lambda: self._rows(count))

    def _rows(self, count: int) -> None:
        connection = sqlite3.connect(self.database)
        connection.execute("CREATE TABLE IF NOT EXISTS fills (id INTEGER PRIMARY KEY, text TEXT)")
        connection.executemany("INSERT INTO fills (text) VALUES (?)", [(f"t{n}",) for n in range(count)])
        connection.commit()
        connection.close()

    def count(self) -> int:
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return int(connection.execute("SELECT count(*) FROM fills").fetchone()[0])
        finally:
            connection.close()

    def slow(self) -> None:
        """An index whose expression takes half a second for each row; it is right, and was made with a cheap one."""

        def work() -> None:
            connection = sqlite3.connect(self.database)
            connection.execute("CREATE INDEX slow ON fills (0 * length(hex(zeroblob(1 + id))))")
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(
                f"UPDATE sqlite_master SET sql = replace(sql, 'blob(1 +', 'blob({SLOW_ROW} +') WHERE name = 'slow'"
            )
            connection.commit()
            connection.close()

        self.as_bot(work)

    def backup(self, **options: Any) -> Any:
        return backup(self.application, self.ports, **options)

    def is_free(self) -> bool:
        """Whether nobody holds the application's lock."""
        with application_lock(
            Path(self.application.application_state_dir), operation="test", clock=self.ports.clock, wait_seconds=0.0
        ):
            return True


def in_time(seconds: float, work: Callable[[], Any]) -> Any:
    """What work returns, or an error's class and text, in a process that is killed when it takes too long."""
    answers, ours = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.close(answers)
            try:
                said = [None, work()]
            except BaseException as error:  # told to the test
                said = [[type(error).__name__, str(error)], None]
                traceback.print_exc()
            os.write(ours, json.dumps(said).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(ours)
    try:
        begun = time.monotonic()
        while os.waitpid(process, os.WNOHANG) == (0, 0):
            if time.monotonic() - begun > seconds:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                pytest.fail(f"still at work after {seconds} s")
            time.sleep(0.02)
        error, result = json.loads(os.read(answers, 1 << 16))
        return error if error is not None else result
    finally:
        os.close(answers)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as base:  # where the bot can get to
        os.chmod(base, 0o755)
        yield Bench(Path(base))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience."""
    monkeypatch.setattr(sqlite, "CHECK_SECONDS", 1.5)
    monkeypatch.setattr(sqlite, "_patience", sqlite._Patience())


# Sidecars


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_a_fifo_for_a_sidecar_holds_nobody(bench: Bench, suffix: str) -> None:
    bench.rows()
    bench.backup()
    bench.rows(1)
    beside = f"{bench.database}{suffix}"
    bench.as_bot(lambda: os.mkfifo(beside))
    error = in_time(20, lambda: bench.backup().status)
    assert error[0] == "CaptureError"
    assert f"x.db{suffix}: is a FIFO" in error[1] and "move it away" in error[1]
    assert bench.is_free()
    findings = in_time(20, lambda: check_databases(bench.application, bench.ports).record["databases"][0]["problems"])
    assert findings == ["is a FIFO, not a file that SQLite has made"]
    assert in_time(20, lambda: drill(bench.application, bench.ports).record["verdict"]) == "passed"
    assert in_time(20, lambda: restore(bench.application, bench.ports, dry_run=True).changed) is True
    assert in_time(30, lambda: restore(bench.application, bench.ports).changed) is True
    assert bench.count() == 100 and not os.path.lexists(beside)
    assert bench.is_free()
    assert in_time(20, lambda: bench.backup().changed) is True


@pytest.mark.parametrize("target", ["/nonexistent/x", "/etc/passwd", "other"])
def test_a_symlink_for_a_sidecar_does_not_keep_a_restore_from_its_end(bench: Bench, target: str) -> None:
    bench.rows()
    bench.backup()
    bench.rows(1)
    beside = f"{bench.database}-journal"
    bench.as_bot(lambda: os.symlink(target, beside))
    assert in_time(20, lambda: restore(bench.application, bench.ports, dry_run=True).changed) is True
    outcome = restore(bench.application, bench.ports)
    assert outcome.changed and bench.count() == 100
    assert not os.path.lexists(beside)
    catalog = LocalCatalog(bench.application, bench.ports.clock)
    safety = next(item for item in catalog.list() if item.is_safety)
    assert safety.good
    assert any("x.db-journal: a symlink, left out" in text for text in safety.sidecar["warnings"])
    bench.backup()  # nothing is pending


@needs_root
@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_a_hard_link_for_a_sidecar_leaves_its_target_alone(bench: Bench, suffix: str) -> None:
    """As a bot can make one where fs.protected_hardlinks is off."""
    bench.rows()
    bench.backup()
    bench.rows(1)
    secret = bench.root.parent / "secret"
    secret.write_bytes(b"root's own" * 1000)
    secret.chmod(0o600)
    os.link(secret, f"{bench.database}{suffix}")
    before = secret.stat()
    error = in_time(20, lambda: bench.backup().status)
    assert error[0] == "CaptureError" and "a file with 2 names" in error[1]
    with pytest.raises(CaptureError, match="2 names"):
        sqlite_live.optimize(bench.database, scratch=bench.root.parent, clock=bench.ports.clock)
    assert restore(bench.application, bench.ports).changed
    after = secret.stat()
    assert (after.st_uid, after.st_mode, after.st_size) == (before.st_uid, before.st_mode, before.st_size)
    assert secret.read_bytes() == b"root's own" * 1000
    safety = next(item for item in LocalCatalog(bench.application, bench.ports.clock).list() if item.is_safety)
    assert any("2 names, left out" in text for text in safety.sidecar["warnings"])


# Time


def test_an_index_of_half_a_second_a_row_is_verified_drilled_and_restored(bench: Bench, quick: None) -> None:
    bench.rows(2000)
    bench.slow()
    made = bench.backup()
    note = "the full check could not be finished"
    outcome = verify(bench.application, bench.ports, reference="latest", deep=True)
    assert outcome.status == 0 and any(note in text for text in outcome.record["backups"][0]["notes"])
    drilled = drill(bench.application, bench.ports).record
    assert drilled["verdict"] == "passed" and any(note in text for text in drilled["notes"])
    bench.as_bot(lambda: os.unlink(bench.database))
    restore(bench.application, bench.ports)
    assert bench.count() == 2000 and any(note in text for text in bench.notes)
    assert made.record["warnings"] == []


def test_what_was_accepted_is_restored_even_when_nothing_of_it_can_be_checked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    """A machine that is a thousand times slower than the one that made the backup."""
    bench.rows()
    bench.backup()
    bench.as_bot(lambda: os.unlink(bench.database))

    def asleep(*_arguments: object, **_options: object) -> None:
        time.sleep(600)

    monkeypatch.setattr(sqlite, "find_problems", asleep)
    notes = in_time(30, lambda: restore(bench.application, bench.ports) and bench.notes)
    assert sum("could not be finished" in text for text in notes) == 2
    assert bench.count() == 100


@pytest.mark.parametrize("kept", ["thread", "ended-thread", "limit"])
def test_work_that_cannot_be_killed_ends_at_its_deadline_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, quick: None, kept: str
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise BlockingIOError("fork: Resource temporarily unavailable")

    bench.rows()
    bench.slow()
    over = threading.Event()
    if kept == "limit":
        monkeypatch.setattr(bounded, "Worker", refuse)
    elif kept == "ended-thread":
        monkeypatch.setattr(bounded, "can_fork", lambda: False)
    else:
        threading.Thread(target=over.wait, daemon=True).start()
    try:
        report = sqlite.check_copy(Path(bench.database), CheckLevel.FULL)
    finally:
        over.set()
    assert report.ok and "could not be finished" in report.warnings[0] and report.facts["check"] == "quick"


def test_one_call_without_end_is_killed(bench: Bench, quick: None) -> None:
    """A search that takes minutes, within one instruction: no progress handler is ever asked."""
    bench.rows(1)

    def work() -> None:
        connection = sqlite3.connect(bench.database)
        connection.execute("CREATE INDEX slow ON fills (0 * instr(hex(zeroblob(1 + id)), hex(zeroblob(2)) || 'x'))")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(replace(sql, 'blob(1 +', 'blob(20000000 +'), 'blob(2)',"
            " 'blob(50000)') WHERE name = 'slow'"
        )
        connection.commit()
        connection.close()

    bench.as_bot(work)
    with tempfile.TemporaryDirectory() as scratch:
        context = CaptureContext(Path(scratch), SystemClock(), CheckLevel.FULL, deadline_seconds=1.0)

        def capture() -> Any:
            with kind_named("sqlite").capture(bench.database, context) as captured:
                return dict(captured.facts)

        facts = in_time(20, capture)
        assert os.listdir(scratch) == []
    assert facts["check"] == "quick" and facts["tables"] == {"fills": 1}
    assert "took longer than 1 s" in facts["notes"][0]


def test_a_signal_ends_the_work_on_a_slow_database(bench: Bench) -> None:
    bench.rows(5000)
    bench.slow()
    bench.backup()
    bench.as_bot(lambda: os.unlink(bench.database))
    ready, told = os.pipe()

    def work() -> None:
        with interruptible():
            os.write(told, b".")
            restore(bench.application, bench.ports)

    process = os.fork()
    if process == 0:
        try:
            work()
        except InterruptedBySignal:
            os._exit(7)
        finally:
            os._exit(1)
    os.read(ready, 1)
    time.sleep(3)
    begun = time.monotonic()
    os.kill(process, signal.SIGTERM)
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        assert time.monotonic() - begun < 8, os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    assert bench.is_free()
    assert [name for name in os.listdir(bench.root) if name.startswith(".tradekeep")] == []


# Size


def test_tens_of_thousands_of_fifos_leave_a_good_backup(bench: Bench) -> None:
    bench.rows()
    names = bench.database.parent / ("n" * 200)

    def work() -> None:
        for number in range(60_000):
            os.mkfifo(f"{names}{number}")

    bench.as_bot(work)
    made = bench.backup()
    assert made.status == 0
    catalog = LocalCatalog(bench.application, bench.ports.clock)
    assert catalog.find("latest").good
    warnings = made.record["warnings"]
    assert len(warnings) == assemble.MOST_WARNINGS + 1
    assert warnings[-1] == f"and {60_000 - assemble.MOST_WARNINGS} more warnings"


@pytest.mark.parametrize("limit", ["MOST_NAMES", "MOST_ENTRIES"])
def test_more_names_than_can_be_looked_at_are_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    def work() -> None:
        for number in range(300):
            os.mkfifo(bench.database.parent / f"n{number}")

    bench.rows()
    bench.as_bot(work)
    assert bench.backup().status == 0
    monkeypatch.setattr(found if limit == "MOST_NAMES" else scan, limit, 250)
    for attempt in (bench.backup, lambda: bench.backup(dry_run=True)):
        with pytest.raises(CaptureError, match="holds more than 250 files and directories") as caught:
            attempt()
        assert "exclude" in str(caught.value.hint)
    assert bench.is_free() and len(LocalCatalog(bench.application, bench.ports.clock).list()) == 1


def test_more_tables_than_a_line_can_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_database, "MOST_NAME_BYTES", 10_000)

    def work() -> None:
        connection = sqlite3.connect(bench.database)
        for number in range(300):
            connection.execute(f"CREATE TABLE {'t' * 100}{number} (a)")
        connection.commit()
        connection.close()

    bench.as_bot(work)
    bench.backup()
    latest = LocalCatalog(bench.application, bench.ports.clock).find("latest")
    assert 50 < len(latest.sidecar["databases"][DATABASE]["tables"]) < 100
    assert verify(bench.application, bench.ports, reference="latest", deep=True).status == 0


def test_more_tables_than_a_sidecar_can_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "MOST_DATABASE_BYTES", 35)
    bench.rows()
    made = bench.backup()
    latest = LocalCatalog(bench.application, bench.ports.clock).find("latest")
    assert latest.good and latest.sidecar["databases"] == {DATABASE: {"tables": {}}}
    assert any("does not name all" in text for text in made.record["warnings"])
    monkeypatch.setattr(assemble, "MOST_DATABASE_BYTES", 20)
    bench.backup()
    assert LocalCatalog(bench.application, bench.ports.clock).find("latest").sidecar["databases"] == {}


def test_a_sidecar_that_would_not_be_read_back_is_not_published(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.rows()
    monkeypatch.setattr(local, "LARGEST_SIDECAR", 300)
    with pytest.raises(ArchiveError, match="more than would be read back"):
        bench.backup()
    assert os.listdir(bench.application.backup_dir) == []


def test_a_line_that_would_not_be_read_back_is_not_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.rows()
    monkeypatch.setattr(manifest, "LONGEST_LINE", 300)
    with pytest.raises(ArchiveError, match="more than would be read back"):
        bench.backup()
    assert os.listdir(bench.application.backup_dir) == []


def test_a_wal_counts_when_space_is_looked_for(bench: Bench) -> None:
    bench.rows()
    before = bench.backup(dry_run=True).record["plan"]["space_needed"]
    with open(f"{bench.database}-wal", "wb") as stream:
        stream.truncate(1 << 30)
    assert bench.backup(dry_run=True).record["plan"]["space_needed"] >= before + (1 << 30)


# Documents


def test_a_document_of_one_string_costs_its_size_once(tmp_path: Path) -> None:
    """A hundred bytes a character, as it was, are more than this process may have."""
    path = tmp_path / "x.json"
    path.write_bytes(b'["' + b"\\n" * (8 << 20) + b'"]')

    def work() -> list[Any]:
        import resource

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        parsed = json_document.scan_structure(path)
        return [parsed.documents, parsed.fault, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]

    documents, fault, grown = in_time(20, work)
    assert (documents, fault) == (1, None) and grown < 40 << 10


def test_brackets_without_end_are_not_remembered_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"[" * (12 << 20))
    assert "brackets are open" in str(json_document.scan_structure(path).fault)


@pytest.mark.parametrize("seed", range(20))
def test_brackets_are_followed_across_any_chunks(seed: int) -> None:
    import random

    dice = random.Random(seed)
    values = ["\\", '"', '[["', 'x\\"}', "\n", "a" * 600, "\\" * 1100, 1, None]
    text = json.dumps([{"k" * dice.randint(0, 3): dice.choice(values)} for _ in range(30)]).encode()
    whole, cut = json_document._Structure(), json_document._Structure()
    at = 0
    while at < len(text):
        size = dice.randint(1, 700)
        whole.feed(text[at : at + size])
        cut.feed(text[at : min(at + size, len(text) - 1)])
        at += size
    assert (whole.documents, whole.fault()) == (1, None)
    assert cut.fault() is not None


def test_compressed_logs_of_many_empty_members_are_read_in_time(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b"") * 300_000)
    members = in_time(10, lambda: kind_named("jsonl").check(path, level=CheckLevel.FULL).facts["members"])
    assert members == 300_000


def test_odd_lines_without_number_are_few_warnings(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes((b"1" * 5000 + b"\n") * 2000)
    report = kind_named("jsonl").check(path, level=CheckLevel.FULL)
    assert report.ok and len(report.warnings) == jsonl._SHOWN + 1
