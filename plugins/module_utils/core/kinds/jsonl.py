# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""JSON Lines: one document a line, appended to; ``.gz`` files are taken as they are."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Optional

from ..application import CheckLevel
from ..errors import CaptureError
from ..formatting import counted
from ..signals import answer
from .appended import capture_appended
from .base import CaptureContext, Captured, CheckReport, FilePath, Signature
from .reading import CHUNK, open_regular

_SHOWN = 5
_LONGEST_LINE = 16 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_INPUT = 32 << 10
"""Of compressed data at a time: what is left of it is copied for each member, and a member can have twenty bytes."""
_MOST_BYTES = 64 << 30
"""Of what is in a compressed file; its size says nothing of it."""


def _integer(text: str) -> int:
    """As newer Pythons do by themselves: more digits would take the square of their number."""
    if len(text) > _MOST_DIGITS:
        raise ValueError("too many digits")
    return int(text)


_MOST_DIGITS = 4300
_decoder = json.JSONDecoder(parse_int=None if hasattr(sys, "set_int_max_str_digits") else _integer)
_decode = _decoder.raw_decode


class JsonLinesKind:
    """A log of JSON documents, one a line."""

    name = "jsonl"
    append_only = True

    def capture(self, path: FilePath, context: CaptureContext, seen: Optional[Signature] = None) -> Captured:
        """The log up to its last whole line; a last line without a newline is whole if it parses."""
        return capture_appended(path, context, whole_lines=not os.fspath(path).endswith(".gz"), is_whole=_is_record)

    def check(self, path: Path, *, level: CheckLevel) -> CheckReport:
        """Every line must parse; a last line that was cut off is a warning, as any crash leaves one."""
        counts = _Counts()
        try:
            with os.fdopen(open_regular(path), "rb", buffering=0) as stream:
                _check_stream(stream, counts)
        except CaptureError as error:
            return CheckReport(self.name, problems=(error.message,))
        return CheckReport(self.name, counts.problems(), counts.warnings(), counts.facts())

    def describe(self, facts: dict[str, Any]) -> str:
        """Number of lines, where a check has counted them."""
        if "lines" in facts:
            return counted(int(facts["lines"]), "line")
        left_out = int(facts.get("unfinished_bytes", 0))
        return f"lines, {counted(left_out, 'byte')} of an unfinished one left out" if left_out else "lines"


def _is_record(line: bytes) -> bool:
    try:
        _load(line)
    except (ValueError, RecursionError):
        return False
    return True


def _load(line: bytes) -> Any:
    """As ``json.loads``."""
    return _decoder.decode(line.decode(json.detect_encoding(line), "surrogatepass"))


class _Counts:
    """What a check has seen so far."""

    def __init__(self) -> None:
        self.lines = 0
        self.members: Optional[int] = None
        self.malformed = 0
        self.odd = 0
        self.notes: list[str] = []
        self.faults: list[str] = []

    def malformed_line(self, reason: str) -> None:
        """Note a line that does not parse; only the first few are named."""
        self.malformed += 1
        if self.malformed <= _SHOWN:
            self.faults.append(f"line {self.lines}: {reason}")

    def odd_line(self, reason: str) -> None:
        """Note a line that other programs may refuse; only the first few are named."""
        self.odd += 1
        if self.odd <= _SHOWN:
            self.notes.append(f"line {self.lines}: {reason}")

    def warnings(self) -> tuple[str, ...]:
        """All that is odd, without repeating thousands of lines."""
        more = self.odd - _SHOWN
        return (*self.notes, f"and {more} more odd lines") if more > 0 else tuple(self.notes)

    def problems(self) -> tuple[str, ...]:
        """Everything found, without repeating thousands of lines."""
        more = self.malformed - _SHOWN
        return (*self.faults, f"and {more} more lines") if more > 0 else tuple(self.faults)

    def facts(self) -> dict[str, Any]:
        """For reports."""
        facts: dict[str, Any] = {"lines": self.lines, "malformed_lines": self.malformed}
        if self.members is not None:
            facts["members"] = self.members
        return facts


def _check_stream(stream: BinaryIO, counts: _Counts) -> None:
    # By magic, not by name: rotated logs are often compressed without being renamed, and the other way round.
    compressed = stream.read(2) == _GZIP_MAGIC
    stream.seek(0)
    rest, seen = b"", 0
    for chunk in _members(stream, counts) if compressed else iter(lambda: stream.read(CHUNK), b""):
        answer()
        seen += len(chunk)
        if compressed and seen > _MOST_BYTES:
            counts.notes.append(f"holds more than {_MOST_BYTES >> 30} GiB; the rest was not looked at")
            return
        lines, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            _check_lines(lines, counts)
        if len(rest) > _LONGEST_LINE:
            counts.faults.append(f"line {counts.lines + 1}: longer than {_LONGEST_LINE >> 20} MiB")
            return
    if rest.strip():
        _check_last_line(rest, counts)


def _check_lines(lines: bytes, counts: _Counts) -> None:
    """Nearly every line is one document from its first byte to its last, which is told in half the time."""
    try:
        text = lines.decode("utf-8")
    except UnicodeDecodeError:
        for line in lines.split(b"\n"):
            _check_line(line, counts)
        return
    for document in text.split("\n"):
        if _is_document(document):
            counts.lines += 1
        else:
            _check_line(document.encode("utf-8"), counts)


def _is_document(text: str) -> bool:
    try:
        return _decode(text)[1] == len(text)
    except (ValueError, RecursionError):
        return False


def _check_line(line: bytes, counts: _Counts) -> None:
    counts.lines += 1
    if not line.strip():
        return
    try:
        _load(line)
    except json.JSONDecodeError as error:
        counts.malformed_line(f"{error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        _check_odd_line(line, error, counts)


def _check_odd_line(line: bytes, error: Exception, counts: _Counts) -> None:
    """Lines that are JSON, but not to every program."""
    if isinstance(error, UnicodeDecodeError):
        counts.malformed_line("not UTF-8")
    elif isinstance(error, RecursionError):
        counts.odd_line("nested too deep to be parsed")
    else:
        counts.odd_line("holds an integer of thousands of digits")


def _check_last_line(rest: bytes, counts: _Counts) -> None:
    counts.lines += 1
    if not _is_record(rest):
        counts.odd_line("the last line is not whole")


def _members(stream: BinaryIO, counts: _Counts) -> Iterator[bytes]:
    """Decompressed chunks of every gzip member; ends at garbage or where the file was cut off."""
    counts.members = 0
    pending = b""
    while True:
        pending = pending or stream.read(_INPUT)
        if not pending:
            return
        if counts.members and not pending.strip(b"\0") and not stream.read(1):
            return
        if not pending.startswith(_GZIP_MAGIC[: len(pending)]):
            left = os.fstat(stream.fileno()).st_size - stream.tell() + len(pending)
            counts.faults.append(
                f"{counted(left, 'byte')} of garbage after {counted(counts.members, 'good gzip member')}"
            )
            return
        decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            yield from _member(stream, pending, decompressor)
        except zlib.error:
            counts.faults.append(f"gzip member {counts.members + 1} is damaged")
            return
        if not decompressor.eof:
            counts.faults.append(f"gzip member {counts.members + 1} is cut off")
            return
        counts.members += 1
        pending = decompressor.unused_data


def _member(stream: BinaryIO, pending: bytes, decompressor: Any) -> Iterator[bytes]:
    data = pending
    while data and not decompressor.eof:
        # Bounded output: a few kilobytes may decompress to gigabytes.
        yield decompressor.decompress(data, CHUNK)
        data = decompressor.unconsumed_tail or (b"" if decompressor.eof else stream.read(_INPUT))
