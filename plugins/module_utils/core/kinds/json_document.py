# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""JSON documents: captured when they parse and two reads agree, since most writers rewrite them in place."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, NamedTuple, Optional

from ..application import CheckLevel
from ..errors import CaptureError
from ..formatting import counted
from ..signals import answer
from ..unicode_forms import UTF_8, Utf8, decoded, json_form
from .base import CaptureContext, Captured, CheckReport, FilePath, MemoryCaptured, ScratchCaptured, Signature
from .growing import capture_growing
from .reading import (
    CHUNK,
    SMALL_FILE,
    copy_steady,
    digest,
    is_settled,
    keeps_changing,
    open_regular,
    open_seen,
    pauses,
    read_once,
    read_whole,
    reads_again,
    signature_of,
    status_of,
)

_SPACE = re.compile(r"[ \t\n\r]*")
# Short strings as a whole, of others the beginning.
_TOKEN = re.compile(rb'"[^"\\]{0,500}"|["\[\]{}]')
# What a string goes on with: so many escapes at once, as the expression remembers a place for each of them.
_IN_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*){0,500}', re.DOTALL)
_MOST_OPEN = 1 << 20
"""Brackets: each that is open is remembered."""


class Parsed(NamedTuple):
    """What a text of one or more JSON documents is like; ``fault`` is None when it is well-formed."""

    documents: int
    bom: bool
    warnings: tuple[str, ...]
    fault: Optional[str]

    @property
    def facts(self) -> Mapping[str, Any]:
        """For the manifest."""
        if self is _ORDINARY:
            return ORDINARY_FACTS
        warnings = self.warnings if self.fault is None else (*self.warnings, f"malformed: {self.fault}")
        return {"documents": self.documents, "bom": self.bom, "warnings": list(warnings)}


_ORDINARY = Parsed(1, False, (), None)
# One object for all of them: the manifest writes it out once.
ORDINARY_FACTS: Mapping[str, Any] = MappingProxyType({"documents": 1, "bom": False, "warnings": []})


class JsonDocumentKind:
    """A JSON document, or several in one file."""

    name = "json"
    append_only = False

    def capture(self, path: FilePath, context: CaptureContext, seen: Optional[Signature] = None) -> Captured:
        """The document as it was when it parsed twice alike.

        One that is malformed and left alone is captured as it is, with a warning among the facts.
        """
        versions: set[Optional[bytes]] = set()
        for _attempt in pauses(context):
            before, seen = seen or signature_of(status_of(path)), None
            if before.size > SMALL_FILE:
                return _capture_large(path, context)
            descriptor = open_seen(path)
            try:
                content, status, _sure = read_once(descriptor, before, context)
                if content is not None:
                    parsed = parse(content)
                    if (parsed.fault is None or is_settled(status.st_ctime_ns)) and reads_again(descriptor, content):
                        return MemoryCaptured(content, parsed.facts, status)
                versions.add(None if content is None else digest(content))
            finally:
                os.close(descriptor)
        if content is None or len(versions) != 1:
            growing = capture_growing(path, context, seconds=3.0)
            if growing is not None:
                return growing
            raise keeps_changing(path, context)
        return MemoryCaptured(content, parsed.facts, status)

    def check(self, path: Path, *, level: CheckLevel) -> CheckReport:
        """Whether the file parses; oddities that other programs may refuse are warnings."""
        try:
            parsed = _parse_file(path)
        except CaptureError as error:
            return CheckReport(self.name, problems=(error.message,))
        problems = () if parsed.fault is None else (parsed.fault,)
        facts = {"documents": parsed.documents, "bom": parsed.bom}
        return CheckReport(self.name, problems=problems, warnings=parsed.warnings, facts=facts)

    def describe(self, facts: dict[str, Any]) -> str:
        """Number of documents and warnings."""
        documents = int(facts.get("documents", 0))
        return "; ".join([counted(documents, "document"), *facts.get("warnings", ())])


def _capture_large(path: FilePath, context: CaptureContext) -> Captured:
    """A document too large to be parsed in memory: a steady copy with all brackets closed."""
    parsed = Parsed(0, False, (), None)
    for _attempt in pauses(context):
        copy, status = copy_steady(path, context)
        captured = ScratchCaptured(copy, {}, status)
        try:
            parsed = scan_structure(copy)
            if parsed.fault is None or is_settled(status.st_ctime_ns):
                captured.facts = parsed.facts
                return captured
        except BaseException:
            captured.close()
            raise
        captured.close()
    growing = capture_growing(path, context, seconds=3.0)
    if growing is not None:
        return growing
    raise CaptureError(
        f"never was a whole document ({parsed.fault})",
        path=path,
        hint="stop the service for the backup, or give it 'kind: log' in the profile, if it only grows",
    )


def _parse_file(path: Path) -> Parsed:
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        if size > SMALL_FILE:
            return scan_structure(path)
        return parse(read_whole(descriptor, size))
    finally:
        os.close(descriptor)


def parse(content: bytes) -> Parsed:
    """Parse one or more documents without keeping them."""
    return _ORDINARY if is_ordinary(content) else _parse_closely(content)


def is_ordinary(content: bytes) -> bool:
    """Whether this is a single object or array in UTF-8 with nothing odd about it, as nearly all documents are."""
    if content[:1] not in (b"{", b"[") or b"\0" in content[:4]:
        return False
    try:
        text = content.decode("utf-8")
        _value, end = _PLAIN.raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return not text[end:].strip(" \t\n\r")


def _parse_closely(content: bytes) -> Parsed:
    form = json_form(content)
    bom = bool(form.mark)
    warnings = [_MARKED] if bom else []
    try:
        text = decoded(content, form)
    except UnicodeDecodeError as error:
        return Parsed(0, bom, tuple(warnings), f"not {form.name} at byte {len(form.mark) + error.start}")
    constants: set[str] = set()
    documents, fault = _parse_documents(text, _decoder(constants.add))
    if fault == _TOO_DEEP:
        return _deeply_nested(text, bom, warnings)
    if constants:
        warnings.append(f"holds {', '.join(sorted(constants))}, which is not JSON to other programs")
    if documents > 1:
        warnings.append(f"holds {counted(documents, 'document')}")
    return Parsed(documents, bom, tuple(warnings), fault)


_TOO_DEEP = "nested too deep"
_MARKED = "starts with a byte order mark"


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


# Numbers are not kept, and integers of thousands of digits are refused by int().
_NUMBERS: dict[str, Any] = {"parse_int": len, "parse_float": len}
_PLAIN = json.JSONDecoder(parse_constant=_refuse_constant, **_NUMBERS)


def _decoder(on_constant: Callable[[str], None]) -> json.JSONDecoder:
    return json.JSONDecoder(parse_constant=on_constant, **_NUMBERS)


def _parse_documents(text: str, decoder: json.JSONDecoder) -> tuple[int, Optional[str]]:
    position = _after_space(text, 0)
    documents = 0
    if position == len(text):
        return 0, "empty"
    while position < len(text):
        try:
            _value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            # error.msg names the rule, never the content, which may be secret.
            return documents, f"{error.msg} at line {error.lineno} column {error.colno}"
        except RecursionError:
            return documents, _TOO_DEEP
        documents += 1
        position = _after_space(text, position)
    return documents, None


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _deeply_nested(text: str, bom: bool, warnings: list[str]) -> Parsed:
    structure = _Structure()
    structure.feed(text.encode("utf-8", "surrogatepass"))
    too_deep = "nested too deep to be parsed; only its brackets were checked"
    return Parsed(structure.documents, bom, (*warnings, too_deep), structure.fault())


def scan_structure(path: Path) -> Parsed:
    """Check that strings and brackets of a large file are closed, in bounded memory."""
    structure = _Structure()
    with open(path, "rb", buffering=0) as stream:
        form = json_form(os.pread(stream.fileno(), 4, 0))
        warnings = (*([_MARKED] if form.mark else []), "too large to be parsed; only its brackets were checked")
        # As UTF-8 all of the structure is ASCII. What is UTF-8 already need not be.
        text = None if form.decode is UTF_8.decode else Utf8(form)
        try:
            for chunk in iter(lambda: stream.read(CHUNK), b""):
                answer()
                structure.feed(chunk if text is None else text.feed(chunk))
            if text is not None:
                text.feed(b"", final=True)
        except UnicodeDecodeError:
            return Parsed(structure.documents, bool(form.mark), warnings, f"not {form.name}")
    return Parsed(structure.documents, bool(form.mark), warnings, structure.fault())


class _Structure:
    """Follows brackets and strings of ASCII-compatible JSON across chunks."""

    def __init__(self) -> None:
        self.documents = 0
        self._open = bytearray()
        self._carry = b""
        self._in_string = False
        self._fault: Optional[str] = None

    def feed(self, chunk: bytes) -> None:
        """The next bytes. Each is looked at once, however long a string is."""
        data, at = self._carry + chunk, 0
        self._carry = b""
        while at < len(data) and len(self._open) <= _MOST_OPEN:
            at = self._after_string(data, at) if self._in_string else self._after_brackets(data, at)

    def _after_string(self, data: bytes, at: int) -> int:
        match = _IN_STRING.match(data, at)
        at = match.end() if match else at
        if data[at : at + 1] == b'"':
            self._in_string = False
            return at + 1
        if len(data) - at == 1:
            self._carry = data[at:]  # a backslash, and what it is for comes with the next chunk
            return len(data)
        return at

    def _after_brackets(self, data: bytes, at: int) -> int:
        """Up to where the next string begins."""
        for match in _TOKEN.finditer(data, at):
            token = match.group()
            if token == b'"':
                self._in_string = True
                return match.end()
            if token in b"[{":
                self._open += token
                if len(self._open) > _MOST_OPEN:
                    self._fault = self._fault or f"more than {_MOST_OPEN} brackets are open"
                    break
            elif len(token) == 1:
                self._close(token)
        return len(data)

    def _close(self, token: bytes) -> None:
        expected = b"[" if token == b"]" else b"{"
        if not self._open or self._open[-1:] != expected:
            self._fault = self._fault or "a bracket is closed that was not opened"
            return
        del self._open[-1]
        if not self._open:
            self.documents += 1

    def fault(self) -> Optional[str]:
        """What is wrong once everything was fed."""
        if self._fault is None and self._in_string:
            return "ends within a string"
        if self._fault is None and self._open:
            return f"ends with {counted(len(self._open), 'bracket')} open"
        return self._fault if self.documents or self._fault else "holds no document"
