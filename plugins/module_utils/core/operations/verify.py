# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Verifying backups: the file as a whole, every entry, and with ``deep`` every database, document and log."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from ..application import Application, CheckLevel
from ..archive.container import open_container
from ..archive.manifest import Entry
from ..archive.members import Member, NullSink, ReadReport
from ..archive.reported import report_as, report_from, texts_from
from ..archive.tar_reader import Readable, read_archive
from ..errors import EncryptionError, ExitStatus, InterruptedBySignal, TradekeepError
from ..host.filesystem.holes import write_pieces
from ..kinds import kind_named
from ..kinds.base import CheckReport
from ..ports import Ports, Progress
from ..storage.choice import is_future
from ..storage.local import Backup, LocalCatalog
from ..storage.maker import HOST
from .apart import ArchiveWork, Telling, patience, read_apart
from .keys import Keys, home_for
from .kind_of import SQLITE, kind_inside, kind_of
from .leftovers import reader_account, reading_scratch
from .links import left_out_line
from .outcome import Outcome
from .reading import CountingSink, checksum, compare_checksum, passphrase_for
from .restore_stage import differing_tables, weighed
from .text import table

_MOST_TEXTS = 1000
NEVER = datetime.min.replace(tzinfo=timezone.utc)


def verify(
    application: Application,
    ports: Ports,
    *,
    reference: str,
    deep: bool = False,
    passphrase_file: Optional[str] = None,
    record: bool = True,
) -> Outcome:
    """Verify one backup, or ``all`` of them, the one longest unverified first.

    record: remember the result in the catalog (left out in check mode). A damaged backup is a finding.
    """
    catalog = LocalCatalog(application, ports.clock, note=ports.progress.note)
    if reference == "all":
        catalog.require_present()
        now = ports.clock.now()
        backups = sorted(catalog.list(), key=lambda item: _last_verified(item, now))
    else:
        backups = [catalog.find(reference)]
    results = [
        _verify_one(application, catalog, item, ports, deep, passphrase_for(application, passphrase_file), record)
        for item in backups
    ]
    bad = [item for item in results if not item["ok"]]
    return Outcome(
        changed=False,
        record={"backups": results},
        lines=tuple(_lines(results)),
        status=ExitStatus.FINDINGS if bad else ExitStatus.DONE,
    )


def _last_verified(backup: Backup, now: datetime) -> datetime:
    """When; a date in the future counts for nothing, or it would come last until it has passed."""
    return NEVER if backup.verified_at is None or is_future(backup.verified_at, now) else backup.verified_at


def _verify_one(
    application: Application,
    catalog: LocalCatalog,
    backup: Backup,
    ports: Ports,
    deep: bool,
    passphrase_file: Optional[str],
    record: bool,
) -> dict[str, Any]:
    started = ports.clock.monotonic()
    checked = _Checked()
    try:
        with _opening(application, backup, ports, passphrase_file) as opening:
            if backup.encrypted and not _can_decrypt(application, backup, ports, opening, checked):
                _checksum_only(backup, ports)
            else:
                _entries(application, backup, ports, deep, opening, checked)
        if backup.sha256 is None:
            checked.notes.append("no .sha256 beside it, so damage of the file as a whole could not be ruled out")
    except InterruptedBySignal:
        raise  # that says nothing about the backup
    except TradekeepError as error:
        checked.problems.append(str(error))
    problems, notes, level, counts = checked.problems, checked.notes, checked.level, checked.counts
    ok = not problems
    maker = catalog.maker
    if backup.application not in (None, maker.application):
        notes.append(f"is a backup of the application {backup.application}, in whose list the result is not kept")
    elif not maker.keeps_record_of(backup):
        notes.append(f"was made on the host {backup.sidecar.get(HOST)}, in whose list the result is not kept")
    elif record:
        catalog.record_verified(backup, level, ports.clock.now(), ok, tuple(problems))
    return {
        "name": backup.path.name,
        "path": str(backup.path),
        "ok": ok,
        "level": level,
        "opened": level != "checksum",
        **counts,
        "problems": problems,
        "notes": notes,
        "seconds": round(ports.clock.monotonic() - started, 3),
    }


@dataclass
class _Checked:
    """What has been found of one backup so far."""

    level: str = "checksum"
    counts: dict[str, int] = field(default_factory=lambda: {"entries": 0, "files": 0, "bytes": 0})
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Opening:
    """What a backup is opened with. home: a gpg home with the host's own key, None for the account's own keyring."""

    passphrase_file: Optional[str]
    home: Optional[str]


@contextmanager
def _opening(
    application: Application, backup: Backup, ports: Ports, passphrase_file: Optional[str]
) -> Iterator[_Opening]:
    with home_for(application, backup.path, None, ports) as home:
        yield _Opening(passphrase_file, home)


def _can_decrypt(application: Application, backup: Backup, ports: Ports, opening: _Opening, checked: _Checked) -> bool:
    """Whether this host holds the key. A host without a key of its own is meant not to; a wrong key is a fault."""
    if opening.passphrase_file is not None:
        return True
    try:
        with open_container(backup.path, runner=ports.runner, gnupg_home=opening.home, packed=True) as stream:
            next(stream.packed, b"")
            stream.packed.close()
    except EncryptionError as error:
        if backup.sha256 is None:
            raise
        names = " or ".join(Keys(application, ports).opened_by(backup.path))
        checked.notes.append(
            f"this host cannot decrypt it ({error.message}; it opens with {names}), so only its checksum was verified"
        )
        return False
    return True


def _checksum_only(backup: Backup, ports: Ports) -> None:
    ports.progress.start("checksum", backup.size)
    compare_checksum(backup, checksum(backup.path, ports.progress))
    ports.progress.finish()


def _entries(
    application: Application,
    backup: Backup,
    ports: Ports,
    deep: bool,
    opening: _Opening,
    checked: _Checked,
) -> None:
    if deep:
        report = _deep(application, backup, ports, opening, checked)
    else:
        report = _shallow(application, backup, ports, opening)
    checked.level = "deep" if deep else "entries"
    checked.notes.extend(report.notes)
    checked.notes.extend(f"{left_out_line(path)} of every restore" for path in report.unsafe_links)
    if report.layout != "tradekeep":
        checked.notes.append("made by another program: it has no manifest, so what should be in it is not known")
    checked.counts = {"entries": report.entries, "files": report.files, "bytes": report.bytes}


def _shallow(application: Application, backup: Backup, ports: Ports, opening: _Opening) -> ReadReport:
    """Every entry against the manifest, keeping none of them: memory does not grow with their number."""

    def read(telling: Telling, stream: Readable) -> dict[str, Any]:
        return report_as(read_archive(stream, CountingSink(telling)))

    ports.progress.start("verifying", backup.sidecar.get("bytes"))
    said = _read(application, backup, ports, opening, read)
    ports.progress.finish()
    return report_from(said)


def _deep(application: Application, backup: Backup, ports: Ports, opening: _Opening, checked: _Checked) -> ReadReport:
    with reading_scratch(application, "verify") as scratch:

        def read(telling: Telling, stream: Readable) -> list[Any]:
            sink = _DeepSink(application, scratch, telling)
            report = read_archive(stream, sink)
            return [report_as(report), sink.problems.texts, sink.notes.texts]

        ports.progress.start("verifying deeply", backup.sidecar.get("bytes"))
        # Each database is checked by a process of its own, which can be forked where no thread is.
        said = _read(application, backup, ports, opening, read, alone=True)
        ports.progress.finish()
    report, problems, notes = said if isinstance(said, list) and len(said) == 3 else (None, None, None)
    checked.problems.extend(texts_from(problems))
    checked.notes.extend(texts_from(notes))
    return report_from(report)


def _read(
    application: Application,
    backup: Backup,
    ports: Ports,
    opening: _Opening,
    read: ArchiveWork,
    *,
    alone: bool = False,
) -> Any:
    """What the reading of the whole archive returns, in the name of the application's owner."""
    opened = open_container(
        backup.path,
        runner=ports.runner,
        passphrase_file=opening.passphrase_file,
        gnupg_home=opening.home,
        packed=True,
    )
    seconds = patience(backup.sidecar.get("bytes"))
    said, sha256 = read_apart(
        read, opened, backup.path, ports, reader_account(application), seconds=seconds, alone=alone
    )
    compare_checksum(backup, sha256)
    return said


class _Texts:
    """The first of many texts, and how many were left out."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._more = 0

    def extend(self, texts: Iterable[str]) -> None:
        """More of them."""
        for text in texts:
            if len(self._first) < _MOST_TEXTS:
                self._first.append(text)
            else:
                self._more += 1

    @property
    def texts(self) -> list[str]:
        """What is told."""
        return [*self._first, f"and {self._more} more"] if self._more else self._first


class _DeepSink(NullSink):
    """Checks each file by its kind from a scratch copy that is gone before the next one comes."""

    def __init__(self, application: Application, scratch: Path, progress: Progress) -> None:
        self._application = application
        self._scratch = scratch
        self._progress = progress
        self._reports: dict[str, CheckReport] = {}
        self._quick: dict[str, CheckReport] = {}
        self.problems = _Texts()
        self.notes = _Texts()

    def on_file(self, member: Member, chunks: Iterator[bytes]) -> None:
        kind = kind_of(self._application.profile, member.path)
        if kind == "file":
            for chunk in chunks:
                self._progress.advance(len(chunk))
            return
        copy = self._scratch / "copy"
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            self._progress.advance(write_pieces(descriptor, member.size, member.extents, chunks))
        finally:
            os.close(descriptor)
        kind = kind_inside(kind, copy)
        report = _checked(kind, copy)
        if kind == SQLITE and report.problems:
            self._quick[member.path] = _checked(kind, copy, CheckLevel.QUICK)
        if kind == "sqlite" or report.problems or report.warnings:
            self._reports[member.path] = report
        for leftover in self._scratch.iterdir():
            leftover.unlink()

    def on_entry(self, entry: Entry) -> None:
        """Weigh what was found: what was damaged already when it was captured is a note."""
        report, quick = self._reports.pop(entry.path, None), self._quick.pop(entry.path, None)
        if report is None:
            return
        if quick is not None:
            report = weighed(entry, report, lambda: quick)
        # The bytes equal what was captured. A log's bad line, or a document that was malformed then, is its writer's.
        known = entry.kind in ("file", "log", "jsonl") or bool(entry.facts.get("warnings"))
        told = [f"{entry.path}: {text}" for text in report.problems]
        (self.notes if known else self.problems).extend(told)
        self.notes.extend(f"{entry.path}: {text}" for text in report.warnings)
        if entry.kind == SQLITE and report.ok and not report.unfinished:
            differing = ["tables"] if differing_tables(entry.facts, report) else []
            if report.facts.get("schema_sha256") != entry.facts.get("schema_sha256", report.facts.get("schema_sha256")):
                differing.append("schema_sha256")
            self.problems.extend(
                f"{entry.path}: {key} differ from what the manifest says of the database" for key in differing
            )


def _checked(kind: str, copy: Path, level: CheckLevel = CheckLevel.FULL) -> CheckReport:
    try:
        return kind_named(kind).check(copy, level=level)
    except InterruptedBySignal:
        raise
    except TradekeepError as error:
        return CheckReport(kind, problems=(error.message,))


def _lines(results: list[dict[str, Any]]) -> Iterator[str]:
    for result in results:
        yield from (f"{result['name']}: {text}" for text in result["notes"])
        yield from (f"{result['name']}: PROBLEM: {text}" for text in result["problems"])
    rows = [
        [item["name"], _word(item), item["level"], str(item["files"]), f"{item['seconds']:.1f} s"] for item in results
    ]
    if rows:
        yield from table(["backup", "result", "checked", "files", "time"], rows)
    else:
        yield "no backups"


def _word(result: dict[str, Any]) -> str:
    """What is known of a backup; of one that cannot be opened here nothing is known of what is in it."""
    if not result["ok"]:
        return "BAD"
    return "ok" if result["opened"] else "unopened"
