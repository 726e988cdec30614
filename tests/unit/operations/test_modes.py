# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modes come back as they were: nothing private is opened, and no right to execute is taken away."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree_modes import mended_mode, mode_beside
from hypothesis import given
from hypothesis import strategies as st

MODES = {"notify.sh": 0o750, "wallet.key": 0o600, "shared.json": 0o664, "seen.txt": 0o644, "tool": 0o755}


@pytest.fixture
def make(tmp_path, any_bench):
    def made(**more):
        component = {"paths": ["data"], "directories": ["data"], **more}
        profile = {"name": "bot", "components": {"data": component}}
        bench = any_bench(tmp_path, profile, root=str(tmp_path / "app"), owner="bot")
        bench.make_tree()
        return bench

    return made


def fill(top, modes=MODES):
    for name, mode in modes.items():
        place = top / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{name}\n")
        place.chmod(mode)


def modes(top):
    return {path.name: path.stat().st_mode & 0o7777 for path in top.iterdir() if path.is_file()}


def test_hazard_c3_modes_that_the_profile_does_not_state_come_back_as_they_were(make, tmp_path):
    bench = make()
    fill(bench.root / "data")
    fill(bench.root / "data/private", {"plain.txt": 0o644})
    (bench.root / "data/private").chmod(0o700)
    backup(bench.application, bench.ports)
    for path in (*(bench.root / "data" / name for name in MODES), bench.root / "data/private/plain.txt"):
        path.unlink()
    (bench.root / "data/private").rmdir()
    foreseen = {
        item["path"]: item["after"]["mode"]
        for item in restore(bench.application, bench.ports, dry_run=True).record["changes"]
    }
    assert foreseen["data/notify.sh"] == "0750" and foreseen["data/wallet.key"] == "0600"
    restore(bench.application, bench.ports)
    restore(bench.application, bench.ports, to=str(tmp_path / "out"))
    for top in (bench.root, tmp_path / "out"):
        assert modes(top / "data") == MODES
        assert (top / "data/private").stat().st_mode & 0o777 == 0o700
    assert tree(bench.application, bench.ports, fix=True).changed is False


def test_hazard_c3_a_stated_mode_takes_no_right_to_execute_and_opens_nothing(make):
    bench = make(file_mode="0640")
    fill(bench.root / "data")
    kept = {"notify.sh": 0o750, "wallet.key": 0o600, "shared.json": 0o640, "seen.txt": 0o640, "tool": 0o750}
    assert tree(bench.application, bench.ports, fix=True).changed
    assert modes(bench.root / "data") == kept
    assert not tree(bench.application, bench.ports, fix=True).changed
    fill(bench.root / "data")
    backup(bench.application, bench.ports)
    for name in MODES:
        (bench.root / "data" / name).unlink()
    restore(bench.application, bench.ports)
    assert modes(bench.root / "data") == kept


def test_hazard_c3_a_restore_opens_no_live_file_that_is_private_now(make):
    bench = make()
    fill(bench.root / "data")
    backup(bench.application, bench.ports)
    for name in MODES:
        (bench.root / "data" / name).write_text("changed\n")
        (bench.root / "data" / name).chmod(0o700)
    restore(bench.application, bench.ports)
    assert modes(bench.root / "data") == {**dict.fromkeys(MODES, 0o700)}


def test_hazard_c3_the_mask_of_an_access_list_gives_the_group_nothing(make):
    bench = make()
    fill(bench.root / "data", {"wallet.key": 0o600})
    place = bench.root / "data/wallet.key"
    entries = ((1, 6, -1), (2, 6, 65534), (4, 0, -1), (16, 6, -1), (32, 0, -1))
    packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(place, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError:
        pytest.skip("no access lists on this filesystem")
    assert place.stat().st_mode & 0o777 == 0o660
    backup(bench.application, bench.ports)
    place.write_text("changed")
    restore(bench.application, bench.ports)
    assert place.stat().st_mode & 0o777 == 0o660, "with the list"
    place.unlink()
    restore(bench.application, bench.ports)
    assert place.stat().st_mode & 0o777 == 0o600


def test_a_migration_brings_the_modes_of_the_source(make, tmp_path):
    bench = make()
    Path(bench.application.config_file).parent.mkdir(parents=True, exist_ok=True)
    Path(bench.application.config_file).write_text(render_configuration(bench.application))
    fill(tmp_path / "old/data")
    migrate(bench.application, bench.ports, source=str(tmp_path / "old"))
    assert modes(bench.root / "data") == MODES


def test_what_lies_above_a_chosen_file_and_another_name_of_one_are_as_they_were(make, tmp_path):
    bench = make()
    source = tmp_path / "old"
    fill(source / "data/sub/deep", {"x.txt": 0o644})
    os.link(source / "data/sub/deep/x.txt", source / "data/sub/deep/y.txt")
    os.utime(source / "data/sub/deep/x.txt", (1_600_000_000, 1_600_000_000))
    (source / "data/sub").chmod(0o755)
    subprocess.run(["tar", "-czf", tmp_path / "old.tar.gz", "-C", source, "data"], check=True)
    archive = str(tmp_path / "old.tar.gz")
    for number, paths in enumerate(((), ("data/sub/deep/x.txt",), ("data/sub/deep/y.txt",))):
        out = tmp_path / str(number)
        restore(bench.application, bench.ports, reference=archive, strip="", paths=paths, to=str(out))
        assert (out / "data/sub").stat().st_mode & 0o777 == 0o755
        found = list((out / "data/sub/deep").iterdir())
        assert found and all(path.stat().st_mtime == 1_600_000_000 for path in found)


ANY = st.integers(0, 0o777)


@given(found=ANY, wanted=ANY.map(lambda mode: mode & 0o775 | 0o400), stated=st.booleans())
def test_no_mode_is_mended_into_a_more_open_one(found, wanted, stated):
    mended = mended_mode(found, wanted, stated=stated, directory=False)
    assert not mended & ~found & 0o377 and mended_mode(mended, wanted, stated=stated, directory=False) == mended
    readers = (mended & 0o444) >> 2
    assert mended & 0o111 & readers == found & 0o111 & readers
    if stated:
        assert not mended & ~wanted & 0o666


@given(mode=ANY, live=ANY)
def test_a_file_is_as_private_as_the_stricter_of_two(mode, live):
    given = mode_beside(mode, live)
    assert not given & 0o066 & ~(mode & live)
    assert given & 0o600 == mode & 0o600
