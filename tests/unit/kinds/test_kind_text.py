# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Documents, logs and plain files are captured whole while others write."""

from __future__ import annotations

import gzip
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import unicode_forms
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import CheckLevel
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CaptureError,
    ChangedWhileReadError,
    ConfigurationError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import (
    KIND_NAMES,
    default_kind,
    json_document,
    kind_named,
    plain_file,
    reading,
)
from hypothesis import assume, given
from hypothesis import strategies as st

QUICK = CheckLevel.QUICK
JSON, JSONL, LOG, FILE = (kind_named(name) for name in ("json", "jsonl", "log", "file"))

REWRITES_IN_PLACE = """
import json, os, sys, time
n = 0
def write():
    text = json.dumps({"n": n, "rows": [n] * 4000, "end": n}).encode()
    with open(sys.argv[1], "wb", buffering=0) as f:
        for i in range(0, len(text), 4096):
            f.write(text[i:i + 4096])
write()
print("ready", flush=True)
while True:
    n += 1
    write()
    time.sleep(float(sys.argv[2]))
"""

APPENDS_WITHOUT_STOP = """
import json, sys, time
f = open(sys.argv[1], "ab", buffering=0)
n = 0
def write():
    line = json.dumps({"n": n, "x": "y" * 300}).encode() + b"\\n"
    f.write(line[:100])
    f.write(line[100:])
for n in range(20):
    write()
print("ready", flush=True)
while True:
    n += 1
    write()
    time.sleep(0.0003)
"""


def read(captured) -> bytes:
    with captured:
        content = captured.open().read()
        captured.confirm()
        assert len(content) == captured.size
        return content


def test_names_and_defaults():
    assert KIND_NAMES == ("sqlite", "json", "jsonl", "log", "file")
    names = {"a.db": "sqlite", "a.json.bak": "json", "a.jsonl.gz": "jsonl", "a.log": "log", ".env": "file"}
    assert {name: default_kind(name) for name in names} == names
    with pytest.raises(ConfigurationError):
        kind_named("nothing")


def test_hazard_a6_document_rewritten_in_place_is_never_torn(data, context, writer):
    writer(REWRITES_IN_PLACE, data / "p.json", "0.004")
    for _ in range(60):
        document = json.loads(read(JSON.capture(data / "p.json", context)))
        assert document["n"] == document["end"]
        assert set(document["rows"]) == {document["n"]}


def test_hazard_a6_document_that_never_holds_still_is_refused(data, context, monkeypatch):
    path = data / "p.json"
    path.write_text("{")
    real, count = json_document.read_once, iter(range(10**6))

    def torn(descriptor, _before, *given):
        path.write_text("{" * next(count))
        return real(descriptor, reading.signature(descriptor), *given)

    monkeypatch.setattr(json_document, "read_once", torn)
    with pytest.raises(CaptureError, match="keeps changing"):
        JSON.capture(path, replace(context, attempts=4))


def test_hazard_a6_second_read_must_agree(data, context, monkeypatch):
    path = data / "p.json"
    path.write_text('{"a": 1}')
    real, reads = json_document.read_once, []

    def overtaken(descriptor, *given):
        result = real(descriptor, *given)
        reads.append(result)
        if len(reads) == 1:
            path.write_text('{"a": 2}')
        return result

    monkeypatch.setattr(json_document, "read_once", overtaken)
    assert read(JSON.capture(path, context)) == b'{"a": 2}'
    assert len(reads) > 1


@pytest.mark.parametrize("kind", [JSONL, LOG])
@pytest.mark.parametrize("copy_first", [False, True])
def test_hazard_a6_growing_log_ends_with_a_whole_line(kind, copy_first, data, context, writer):
    writer(APPENDS_WITHOUT_STOP, data / "f.jsonl")
    for _ in range(20):
        content = read(kind.capture(data / "f.jsonl", replace(context, copy_first=copy_first)))
        assert content.endswith(b"\n")
        assert [json.loads(line)["n"] for line in content.splitlines()][:3] == [0, 1, 2]
    assert not list(context.scratch.iterdir())


def test_hazard_a6_rotation_keeps_the_opened_inode(data, context):
    path = data / "a.log"
    path.write_bytes(b"old\n" * 1000)
    with LOG.capture(path, context) as captured:
        path.rename(data / "a.log.1")
        path.write_bytes(b"new\n")
        assert captured.open().read() == b"old\n" * 1000
        captured.confirm()


@pytest.mark.parametrize("afterwards", [b"", b"new line\n" * 2000])
def test_hazard_a6_copytruncate_is_noticed(afterwards, data, context):
    path = data / "a.log"
    path.write_bytes(b"old line\n" * 1000)
    with LOG.capture(path, context) as captured, pytest.raises(ChangedWhileReadError):
        path.write_bytes(afterwards)
        captured.open().read()
        captured.confirm()


def test_hazard_a6_large_file_changed_under_the_reader_is_noticed(data, context, monkeypatch):
    monkeypatch.setattr(plain_file, "SMALL_FILE", 10)
    path = data / "big.bin"
    path.write_bytes(b"a" * 100000)
    with FILE.capture(path, context) as captured, pytest.raises(ChangedWhileReadError):
        stream = captured.open()
        stream.read(10)
        with path.open("r+b") as other:
            other.write(b"b")
        stream.read()
        captured.confirm()
    assert read(FILE.capture(path, replace(context, copy_first=True))) == path.read_bytes()
    assert not list(context.scratch.iterdir())


@pytest.mark.parametrize(
    ("content", "documents", "warning"),
    [
        (b'\xef\xbb\xbf{"a": 1}', 1, "byte order mark"),
        (b'{"a": 1}\n{"b": 2}\n', 2, "2 documents"),
        (b'{"a": NaN, "b": -Infinity}', 1, "-Infinity, NaN"),
        (b"[" * 200000 + b"]" * 200000, 1, "nested too deep"),
        (b'{"big": ' + b"9" * 6000 + b"}", 1, None),
    ],
    ids=["bom", "two-documents", "nan", "deep", "big-integer"],
)
def test_hazard_a8_odd_documents_are_kept_as_they_are(content, documents, warning, data, context):
    path = data / "p.json"
    path.write_bytes(content)
    captured = JSON.capture(path, context)
    assert captured.facts["documents"] == documents
    assert (warning is None and captured.facts["warnings"] == []) or warning in captured.facts["warnings"][0]
    assert read(captured) == content
    assert JSON.check(path, level=QUICK).ok


@pytest.mark.parametrize(
    "content",
    [b"", b'{"a": ', b'{"a": "secret-\xff"}', b"[1, 2]]", b"[" * 200000],
    ids=["empty", "cut-off", "not-utf8", "one-bracket-too-many", "deep-and-open"],
)
def test_hazard_a8_malformed_but_stable_document_is_kept_and_reported(content, data, context):
    path = data / "p.json"
    path.write_bytes(content)
    captured = JSON.capture(path, replace(context, attempts=3))
    assert "malformed" in captured.facts["warnings"][-1]
    assert "secret" not in str(captured.facts)
    assert read(captured) == content
    report = JSON.check(path, level=QUICK)
    assert not report.ok
    assert "secret" not in str(report)


def test_large_document_is_scanned_in_bounded_memory(data, context, monkeypatch):
    monkeypatch.setattr(json_document, "SMALL_FILE", 100)
    monkeypatch.setattr(json_document, "CHUNK", 7)
    path = data / "p.json"
    content = json.dumps([{"text": 'quote " bracket ] \\ ' * 3, "n": n} for n in range(50)]).encode()
    path.write_bytes(content)
    assert read(JSON.capture(path, context)) == content
    assert JSON.check(path, level=QUICK).ok
    path.write_bytes(content[:-5])
    assert not JSON.check(path, level=QUICK).ok
    assert not list(context.scratch.iterdir())


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("large", [False, True])
def test_a_document_in_any_encoding_of_unicode_is_one(encoding, large, data, context, monkeypatch):
    """Also where it is too large to be parsed: a quotation mark behind a backslash ends no string in UTF-16 either."""
    if large:
        monkeypatch.setattr(json_document, "SMALL_FILE", 100)
        monkeypatch.setattr(json_document, "CHUNK", 7)
    path = data / "p.json"
    text = json.dumps(
        [{"text": 'quote \\" bracket ] \N{PILE OF POO} \u225d' * 3, "n": n} for n in range(9)], ensure_ascii=False
    )
    content = text.encode(encoding)
    path.write_bytes(content)
    captured = JSON.capture(path, context)
    assert read(captured) == content
    report = JSON.check(path, level=QUICK)
    assert report.ok and report.facts == {"documents": 1, "bom": encoding in ("utf-8-sig", "utf-16", "utf-32")}
    path.write_bytes(text[:-1].encode(encoding))
    assert not JSON.check(path, level=QUICK).ok
    if encoding != "utf-8" and not encoding.endswith("sig"):
        path.write_bytes(content[:-1])
        assert JSON.check(path, level=QUICK).problems[0].startswith(f"not {encoding[:6]}")


@given(st.text(max_size=40), st.sampled_from(ENCODINGS), st.integers(1, 9))
def test_a_text_comes_to_the_same_bytes_whatever_its_encoding(text, encoding, size):
    assume(not text.startswith(("\ufeff", "\0")))
    content = ("{" + text).encode(encoding)
    form = unicode_forms.json_form(content)
    utf8 = unicode_forms.Utf8(form)
    parts = [utf8.feed(content[at : at + size]) for at in range(0, len(content), size)]
    if len(content) >= 4 and text[:1] != "\0":
        assert b"".join([*parts, utf8.feed(b"", final=True)]) == ("{" + text).encode()
        assert unicode_forms.decoded(content, form) == "{" + text


def test_last_line_without_newline_counts_if_it_parses(data, context):
    path = data / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": 2}')
    assert read(JSONL.capture(path, context)) == b'{"a": 1}\n{"b": 2}'
    path.write_bytes(b'{"a": 1}\n{"b": ')
    captured = JSONL.capture(path, context)
    assert captured.facts == {"unfinished_bytes": 6}
    assert read(captured) == b'{"a": 1}\n'
    report = JSONL.check(path, level=QUICK)
    assert report.ok
    assert report.warnings == ("line 2: the last line is not whole",)


def test_malformed_line_is_a_problem(data):
    path = data / "a.jsonl"
    path.write_bytes(b'{"a": 1}\nsecret\n{"b": 2}\n' + b"x\n" * 10)
    report = JSONL.check(path, level=QUICK)
    assert report.problems[0].startswith("line 2: ")
    assert report.problems[-1] == "and 6 more lines"
    assert report.facts == {"lines": 13, "malformed_lines": 11}
    assert "secret" not in str(report)


def test_hazard_a8_gz_with_good_members_and_garbage(data, context):
    path = data / "a.jsonl.gz"
    good = b"".join(gzip.compress(b'{"n": 1}\n') for _ in range(300))
    for content, problem in (
        (good, None),
        (good + b"\x80garbage" * 50000, "garbage after 300 good gzip members"),
        (good + gzip.compress(os.urandom(3000))[:500], "gzip member 301 is cut off"),
    ):
        path.write_bytes(content)
        assert read(JSONL.capture(path, context)) == content
        report = JSONL.check(path, level=QUICK)
        assert report.ok is (problem is None)
        if problem is None:
            assert report.facts == {"lines": 300, "malformed_lines": 0, "members": 300}
        else:
            assert any(problem in found for found in report.problems)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_hazard_a9_special_files_are_never_opened(kind, data, context, monkeypatch):
    os.mkfifo(data / "fifo")
    (data / "target").write_text("{}")
    (data / "link").symlink_to("target")
    (data / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(data)
        server.bind("socket")
        opened = []
        real = os.open
        monkeypatch.setattr(os, "open", lambda *a, **k: (opened.append(a[0]), real(*a, **k))[1])
        for name, word in (("fifo", "FIFO"), ("socket", "socket"), ("link", "symlink"), ("directory", "directory")):
            with pytest.raises(CaptureError, match=word):
                kind_named(kind).capture(data / name, context)
    assert not [path for path in opened if Path(str(path)).parent == data]


def test_hazard_a9_names_that_are_not_utf8(data, context):
    path = Path(os.fsdecode(os.fsencode(data) + b"/a\xff\nb.bin"))
    path.write_bytes(b"x")
    assert read(FILE.capture(path, context)) == b"x"


def test_missing_file_is_told(data, context):
    with pytest.raises(CaptureError, match="disappeared"):
        FILE.capture(data / "gone", context)
