# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a process that has fewer rights says of an archive that it reads: entries and the report, as JSON.

The archive may have taken that process over. What it says is checked as an archive is: no name leads out of the data,
nothing lies beneath a file or a symlink, no mode has setuid, and there is an end to it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any, Callable, Optional

from .attributes import FACT, Allowance, of_facts
from .manifest import NO_FACTS, Entry, Header
from .members import ReadReport
from .safety import DIRECTORY, FILE, SYMLINK, Limits, Names, all_safe_relative, check_mode, damaged, safe_relative

_BATCH = 512
_BATCH_BYTES = 1 << 20
_TYPES = (FILE, DIRECTORY, SYMLINK)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LAYOUTS = ("tradekeep", "foreign")
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class EntriesOut:
    """Sends entries in batches."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._waiting: list[str] = []
        self._bytes = 0

    def add(self, entry: Entry) -> None:
        """One more."""
        text = _encode((*entry[:11], dict(entry.facts) if entry.facts else None))
        self._waiting.append(text)
        self._bytes += len(text)
        if len(self._waiting) >= _BATCH or self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Those that still wait."""
        if self._waiting:
            self._send(("[" + ",".join(self._waiting) + "]").encode("ascii"))
            self._waiting.clear()
            self._bytes = 0


class EntriesIn:
    """Takes the batches, and refuses what no archive may hold."""

    def __init__(self) -> None:
        self.repeated = False
        self._allowance = Allowance()
        self._entries: list[Entry] = []
        self._names = Names(Limits())

    @property
    def entries(self) -> list[Entry]:
        """All of them; of those that a foreign archive has more than once, the last."""
        if self.repeated:
            return list({entry.path: entry for entry in self._entries}.values())
        return self._entries

    def hear(self, payload: bytes) -> None:
        """One batch."""
        try:
            said = json.loads(payload)
            batch = [Entry._make((*fields[:11], fields[11] or NO_FACTS)) for fields in said]
            all_safe_relative([entry.path for entry in batch])
            for entry in batch:
                self._take(entry)
        except (ValueError, TypeError, IndexError, RecursionError, AttributeError) as error:
            raise damaged("the process that reads the archive names an entry that is none") from error

    def _take(self, entry: Entry) -> None:
        path, entry_type, size, mode, owner, group, mtime_ns, sha256, target, kind, component, facts = entry
        numbers = type(size) is type(mode) is type(mtime_ns) is int and size >= 0
        texts = isinstance(owner, str) and isinstance(group, str) and _optional(target, kind, component)
        if not (entry_type in _TYPES and numbers and texts and (facts is NO_FACTS or isinstance(facts, dict))):
            raise TypeError(entry_type)
        if not (sha256 is None or _DIGEST.fullmatch(sha256)):
            raise TypeError(entry_type)
        check_mode(mode, entry_type, path)
        if FACT in facts and not self._allowance.has_room_for(of_facts(facts)):
            raise TypeError(FACT)
        self.repeated |= self._names.add_or_repeat(path, entry_type)
        self._entries.append(entry)


def report_as(report: ReadReport) -> dict[str, Any]:
    """A report as JSON says it."""
    said = {name: getattr(report, name) for name in ReadReport.__dataclass_fields__}
    return {**said, "header": None if report.header is None else asdict(report.header)}


def report_from(said: Any) -> ReadReport:
    """The report that was sent."""
    try:
        header, layout, prefix = said["header"], said["layout"], said["stripped_prefix"]
        if layout not in _LAYOUTS or (header is None) != (layout == "foreign"):
            raise TypeError(layout)
        return ReadReport(
            layout=layout,
            header=None if header is None else _header(header),
            entries=_count(said["entries"]),
            files=_count(said["files"]),
            bytes=_count(said["bytes"]),
            stripped_prefix=safe_relative(prefix) if prefix else "",
            manifest_sha256=_text(said["manifest_sha256"], optional=True),
            problems=_texts(said["problems"]),
            notes=_texts(said["notes"]),
            unsafe_links=_texts(said["unsafe_links"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged("the process that reads the archive reports what is no report") from error


def finding_as(path: str, problem: Optional[str]) -> bytes:
    """What is wrong with one entry, or None, as JSON says it."""
    return _encode((path, problem)).encode("ascii")


class FindingsIn:
    """Takes the findings; the last one for each file of an archive counts."""

    def __init__(self) -> None:
        self.findings: dict[str, Optional[str]] = {}
        self._names = Names(Limits())

    def hear(self, payload: bytes) -> None:
        """One finding."""
        try:
            path, problem = json.loads(payload)
            self._names.add_or_repeat(safe_relative(path), FILE)
            self.findings[path] = _text(problem, optional=True)
        except (ValueError, TypeError, RecursionError, AttributeError) as error:
            raise damaged("the process that reads the archive finds what is no finding") from error


def texts_from(said: Any) -> tuple[str, ...]:
    """A list of texts that was sent."""
    try:
        return _texts(said)
    except TypeError as error:
        raise damaged("the process that reads the archive reports what is no list of texts") from error


def _header(said: Any) -> Header:
    fields = dict(said)
    missing, excluded = _texts(fields.pop("missing")), _texts(fields.pop("excluded"))
    encrypted, version = bool(fields.pop("encrypted")), _count(fields.pop("format"))
    name = _text(fields.pop("name"), optional=True)
    texts = {key: str(_text(value)) for key, value in fields.items()}
    return Header(
        **texts,
        name=name,
        encrypted=encrypted,
        format=version,
        missing=missing,
        excluded=excluded,
    )


def _optional(*values: object) -> bool:
    return all(value is None or isinstance(value, str) for value in values)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(value)
    return int(value)


def _text(value: Any, *, optional: bool = False) -> Optional[str]:
    if not isinstance(value, str) and not (optional and value is None):
        raise TypeError(value)
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise TypeError(value)
    return tuple(value)
