# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""The short way to capture small files: it captures what the kind would, and leaves alone whatever is odd."""

from __future__ import annotations

import os

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import kind_named, small
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.reading import signature_of

LATER = 1 << 62
WAYS = ("file", "json")


def seen(path):
    return signature_of(os.lstat(path))


def short(kind, path, before=None, settled=LATER):
    return small.SHORT_WAYS[kind].read(path, before or seen(path), settled)


@pytest.mark.parametrize("kind", WAYS)
def test_it_captures_what_the_kind_does(kind, data, context):
    path = data / "x"
    path.write_bytes(b'{"n": 1}\n')
    content, status = short(kind, path)
    with kind_named(kind).capture(path, context) as captured:
        assert (content, status, small.SHORT_WAYS[kind].facts) == (captured.content, captured.status, captured.facts)


@pytest.mark.parametrize("kind", WAYS)
def test_hazard_a6_what_changed_since_it_was_seen_is_not_captured(kind, data):
    path = data / "x"
    path.write_bytes(b'{"n": 1}')
    before = seen(path)
    assert short(kind, path, before._replace(changed_ns=before.changed_ns - 1)) is None
    path.write_bytes(b'{"n": 12}')
    assert short(kind, path, before) is None
    assert short(kind, path, seen(path)) is not None


@pytest.mark.parametrize("kind", WAYS)
def test_hazard_a6_what_changes_while_it_is_read_is_not_captured(kind, data, monkeypatch):
    path = data / "x"
    path.write_bytes(b'{"n": 1}')
    before, real = seen(path), os.pread

    def pread(descriptor, size, offset):
        content = real(descriptor, size, offset)
        os.utime(path)
        return content

    monkeypatch.setattr(os, "pread", pread)
    assert short(kind, path, before) is None


def test_hazard_a6_what_a_write_would_not_show_in_is_not_captured(data):
    path = data / "x"
    path.write_bytes(b"{}")
    assert short("file", path, settled=seen(path).changed_ns) is None
    assert short("file", path, settled=small.settled_before()) is None


def test_hazard_a6_a_document_of_which_two_reads_differ_is_not_captured(data, monkeypatch):
    path = data / "x"
    path.write_bytes(b"[1]")
    answers = [b"[1]", b"[2]"]
    monkeypatch.setattr(os, "pread", lambda *_arguments: answers.pop(0))
    assert short("json", path) is None
    assert answers == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1] [2]", b"\xef\xbb\xbf{}", b"[NaN]", b"1", b"[" * 5000])
def test_a_document_that_is_not_ordinary_is_left_to_its_kind(content, data):
    path = data / "x"
    path.write_bytes(content)
    assert short("json", path) is None
    assert short("file", path)[0] == content


@pytest.mark.parametrize("kind", WAYS)
def test_hazard_a9_what_has_taken_the_place_of_a_file_is_left_to_its_kind(kind, data):
    path = data / "x"
    path.write_bytes(b"{}")
    before, opened = seen(path), sorted(os.listdir("/proc/self/fd"))
    path.rename(data / "y")
    assert short(kind, path, before) is None
    path.symlink_to("y")
    assert short(kind, path, before) is None
    path.unlink()
    os.mkfifo(path)
    assert short(kind, path, before) is None
    path.unlink()
    path.mkdir()
    assert short(kind, path, before) is None
    assert sorted(os.listdir("/proc/self/fd")) == opened


def test_hazard_a9_nothing_but_a_regular_file_is_captured():
    assert short("file", "/dev/null") is None
