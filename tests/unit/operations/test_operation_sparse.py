# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with holes, such as a database of LMDB: they cost what their data costs, and come back with their holes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.holes import DataDigest, digest_of_sparse
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem import holes
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.holes import extents_of, placed
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from hypothesis import example, given, settings
from hypothesis import strategies as st

SIZE = 200 << 30
BEGINNING, MIDDLE, END = os.urandom(1 << 20), os.urandom(5000), b"the last page"
PATH = "state/data.mdb"


def make(path):
    """200 GiB, of which about one MiB is used."""
    with open(path, "wb") as file:
        file.write(BEGINNING)
        file.seek(SIZE // 2 + 77)
        file.write(MIDDLE)
        file.seek(SIZE - len(END))
        file.write(END)
    return path


def assert_is_as_made(path):
    status = os.stat(path)
    assert status.st_size == SIZE
    assert status.st_blocks * 512 < 2 << 20
    with open(path, "rb") as file:
        assert file.read(len(BEGINNING) + 1) == BEGINNING + b"\0"
        file.seek(SIZE // 2 + 77)
        assert file.read(len(MIDDLE) + 1) == MIDDLE + b"\0"
        file.seek(SIZE - len(END) - 1)
        assert file.read() == b"\0" + END


def test_a_sparse_file_costs_what_its_data_costs(bench, tmp_path):
    bench.database().close()
    live = make(bench.root / PATH)
    plan = backup(bench.application, bench.ports, dry_run=True).record["plan"]
    assert plan["space_needed"] < 50 << 20
    made = backup(bench.application, bench.ports)
    archive = made.record["backup"]["path"]
    assert os.stat(archive).st_size < 10 << 20
    with open(f"{archive}.json", encoding="utf-8") as sidecar:
        assert json.load(sidecar)["bytes"] < 10 << 20
    for deep in (False, True):
        assert verify(bench.application, bench.ports, reference="latest", deep=deep).status is ExitStatus.DONE
    assert drill(bench.application, bench.ports).status is ExitStatus.DONE
    assert not restore(bench.application, bench.ports).changed
    restore(bench.application, bench.ports, to=str(tmp_path / "out"))
    assert_is_as_made(tmp_path / "out" / PATH)
    live.write_bytes(b"broken")
    assert restore(bench.application, bench.ports).changed
    assert_is_as_made(live)
    with open(live, "r+b") as file:
        file.seek(SIZE // 3)
        file.write(b"one byte more")
    assert restore(bench.application, bench.ports, reference=os.path.basename(archive)).changed
    assert_is_as_made(live)


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_any_tar_unpacks_it_with_its_holes(bench, tmp_path, program):
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    make(bench.root / PATH)
    archive = backup(bench.application, bench.ports).record["backup"]["path"]
    subprocess.run((program, "-xzf", archive), cwd=tmp_path, check=True)
    assert_is_as_made(tmp_path / PATH)


def test_a_file_that_changes_is_copied_with_its_holes(bench):
    live = make(bench.root / PATH)
    changed = []

    def read(descriptor, extents):
        if not changed:
            changed.append(os.utime(live))
        return pieces(descriptor, extents)

    pieces = holes.pieces_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.base.pieces_of", read)
        backup(bench.application, bench.ports)
    assert changed
    live.unlink()
    restore(bench.application, bench.ports)
    assert_is_as_made(live)


def test_a_file_with_few_holes_is_kept_as_it_is(tmp_path):
    """Most files: nobody can tell, and the digest is that of sha256sum."""
    with open(tmp_path / "f", "wb") as file:
        file.write(os.urandom(9 << 20))
        file.truncate((9 << 20) + 5000)
    with open(tmp_path / "f", "rb") as file:
        assert extents_of(file.fileno(), (9 << 20) + 5000) is None


def test_a_file_of_very_many_parts_has_a_bounded_map(tmp_path, monkeypatch):
    monkeypatch.setattr(holes, "MOST_EXTENTS", 10)
    with open(tmp_path / "f", "w+b") as file:
        for number in range(300):
            file.seek(number * 65536 + (number // 7 << 22))
            file.write(b"x")
        file.truncate(1 << 30)
        file.flush()
        os.fsync(file.fileno())
        extents = extents_of(file.fileno(), 1 << 30)
        assert len(extents) <= 10
        assert digest_of_sparse(file.fileno(), 1 << 30) == digest_in_pieces(file, 1 << 30, 1 << 20)


def digest_in_pieces(file, size, step):
    """The digest by reading all, holes included."""
    digest = DataDigest()
    file.seek(0)
    for at in range(0, size, step):
        digest.add(at, file.read(step))
    return digest.hexdigest(size)


contents = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9000)), max_size=6)
cuts = st.lists(st.integers(1, 40_000), max_size=12)


@settings(max_examples=150, deadline=None)
@given(contents, contents, cuts, cuts)
@example([(0, 5)], [(1, 5)], [], [])
def test_equal_content_has_equal_digests_and_other_content_others(first, second, cuts, others):
    """However it is cut into parts, and whichever of its zeros are holes."""
    whole, another = bytearray(60_000), bytearray(60_000)
    for content, made in ((first, whole), (second, another)):
        for block, length in content:
            made[block * 4096 + 3 : block * 4096 + 3 + length] = b"x" * length

    def digest_of(content, cuts):
        digest, at = DataDigest(), 0
        for length in (*cuts, len(content)):
            piece = bytes(content[at : at + length])
            if piece.strip(b"\0"):
                digest.add(at, piece)
            at += len(piece)
        return digest.hexdigest(len(content))

    assert digest_of(whole, cuts) == digest_of(whole, others)
    assert (digest_of(whole, cuts) == digest_of(another, others)) == (whole == another)


def test_pieces_find_their_places():
    extents = ((5, 3), (100, 2), (200, 4))
    found = [(offset, piece) for offset, piece in placed(extents, [b"ab", b"cde", b"fgh", b"i"])]
    assert found == [(5, b"ab"), (7, b"c"), (100, b"de"), (200, b"fgh"), (203, b"i")]
