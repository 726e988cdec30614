# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What root trusts: each way in which somebody else could change what is at the end of a path."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git.signatures import _read
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import trust
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.ownership import name_of_gid, name_of_uid
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.trust import (
    open_trusted,
    read_trusted,
    require_trusted,
    untrusted_level,
    untrusted_reason,
)

pytestmark = pytest.mark.root
NOBODY = 65534


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a/b").mkdir(parents=True)
    found = tmp_path / "a/b/file"
    found.write_text("content")
    return found


def test_what_is_roots_alone_is_trusted(file: Path) -> None:
    assert untrusted_reason(file) is None
    assert untrusted_reason(f"{file.parent}/../b/./file") is None
    assert read_trusted(file, what="the file") == b"content"


def test_a_relative_path_counts_from_where_the_engine_runs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert read_trusted("file", what="the file") == b"content"
    os.chown(file.parent, NOBODY, NOBODY)
    assert "belongs to" in (untrusted_reason("file") or "")


@pytest.mark.parametrize("level", ["a", "a/b", "a/b/file"])
def test_each_level_counts(file: Path, level: str) -> None:
    place = file.parents[2] / level
    os.chown(place, NOBODY, NOBODY)
    found = untrusted_level(file)
    assert found is not None and (found.path, found.uid) == (str(place), NOBODY)
    os.chown(place, 0, 0)
    place.chmod(0o757)
    assert untrusted_reason(file) == f"{place} can be written to by everybody"
    place.chmod(0o775)
    os.chown(place, 0, NOBODY)
    assert untrusted_reason(file) == f"{place} can be written to by its group, {name_of_gid(NOBODY)}"


def test_levels_behind_symlinks_count(tmp_path: Path, file: Path) -> None:
    (tmp_path / "c").mkdir()
    link = tmp_path / "c/link"
    for target in (str(file.parent), "../a/b"):
        link.symlink_to(target)
        assert read_trusted(link / "file", what="the file") == b"content"
        os.chown(tmp_path / "a", NOBODY, NOBODY)
        assert untrusted_reason(link / "file") == f"{tmp_path}/a belongs to {name_of_uid(NOBODY)}"
        os.chown(tmp_path / "a", 0, 0)
        os.chown(tmp_path / "c", NOBODY, NOBODY)
        assert untrusted_reason(link / "file") == f"{tmp_path}/c belongs to {name_of_uid(NOBODY)}"
        os.chown(tmp_path / "c", 0, 0)
        os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
        assert untrusted_reason(link / "file") == f"{link} belongs to {name_of_uid(NOBODY)}"
        link.unlink()


def test_symlinks_in_a_circle_are_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    assert "cannot be looked at" in (untrusted_reason(tmp_path / "x") or "")


def test_a_shared_directory_is_passed_through_to_what_is_roots(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "own").mkdir()
    (shared / "own/file").write_text("content")
    assert untrusted_reason(shared / "own/file") is None
    assert untrusted_level(shared, shared=True) is None
    assert untrusted_reason(shared) == f"everybody can put files into {shared}"
    assert untrusted_reason(shared / "absent") == f"everybody can put files into {shared}"
    (shared / "link").symlink_to("later")
    assert untrusted_reason(shared / "link") == f"everybody can put files into {shared}"
    (shared / "file").write_text("content")
    assert untrusted_reason(shared / "file") is None
    os.link(shared / "file", shared / "second")
    assert "has a second name" in (untrusted_reason(shared / "second") or "")
    shared.chmod(0o777)
    assert untrusted_reason(shared / "own/file") == f"{shared} can be written to by everybody"


def test_what_does_not_exist_is_trusted_where_root_alone_could_make_it(file: Path) -> None:
    assert untrusted_reason(file.parent / "absent/deeper") is None
    assert untrusted_reason(file / "deeper") is None
    with pytest.raises(FileNotFoundError):
        open_trusted(file.parent / "absent", what="the file")
    os.chown(file.parent, NOBODY, NOBODY)
    assert untrusted_reason(file.parent / "absent") is not None


def test_what_is_no_regular_file_is_not_opened(file: Path) -> None:
    os.mkfifo(file.parent / "pipe")
    with pytest.raises(ConfigurationError, match="the file is not a regular file"):
        open_trusted(file.parent / "pipe", what="the file")
    with pytest.raises(IsADirectoryError):
        open_trusted(file.parent, what="the file")


def test_the_refusal_names_a_way_out(file: Path) -> None:
    os.chown(file, NOBODY, NOBODY)
    with pytest.raises(ConfigurationError, match=f"chown root {file}; chmod go-w {file}"):
        require_trusted(file, what="the file")
    os.chown(file.parent, NOBODY, NOBODY)
    with pytest.raises(ConfigurationError, match="move it to where root alone can write"):
        require_trusted(file, what="the file")


@pytest.mark.parametrize(
    ("gid", "name", "members", "trusted"),
    [
        (0, "root", [], True),
        (0, "root", ["root"], True),
        (0, "root", ["nobody"], False),
        (50, "staff", [], True),
        (50, "staff", ["nobody"], False),
        (50, "other", [], False),
        (NOBODY, "staff", [], False),  # the first group of nobody
    ],
)
def test_a_group_counts_unless_nobody_can_be_in_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, gid: int, name: str, members: list[str], trusted: bool
) -> None:
    monkeypatch.setattr(trust.grp, "getgrgid", lambda number: grp.struct_group((name, "x", number, members)))
    os.chown(file, 0, gid)
    file.chmod(0o664)
    assert (untrusted_reason(file) is None) is trusted


def test_an_acl_counts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust.os, "getxattr", lambda _path, _name: b"any")
    assert untrusted_reason(file) is None
    file.chmod(0o664)
    assert "can be written to by its group" in (untrusted_reason(file) or "")


def test_whoever_is_not_root_trusts_as_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(file, NOBODY, NOBODY)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert read_trusted(file, what="the file") == b"content"


def test_a_list_of_signers_of_the_bots_is_not_read(file: Path) -> None:
    os.chown(file, NOBODY, NOBODY)
    with pytest.raises(ConfigurationError, match="root does not use the list of signers"):
        _read(file)


def test_a_program_of_somebody_elses_is_not_run(file: Path) -> None:
    file.write_text("#!/bin/sh\necho ran\n")
    file.chmod(0o755)
    runner = SubprocessRunner(search_path=f"{file.parent}:/usr/bin:/bin")
    assert runner.run(["file"]).stdout == "ran\n"
    assert runner.run([str(file)]).stdout == "ran\n"
    os.chown(file, NOBODY, NOBODY)
    for name in ("file", str(file)):
        assert runner.find(name) is None or runner.find(name) != str(file)
    with pytest.raises(Exception, match="is not run as root, as others can change it"):
        runner.run([str(file)])


def test_path_and_home_of_roots_programs_are_roots(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    runner = SubprocessRunner(search_path=f"{file.parent}:/usr/bin:/bin")
    assert runner.run(["sh", "-c", "echo $HOME"]).stdout == f"{pwd.getpwuid(0).pw_dir}\n"
    assert runner.run(["sh", "-c", "echo $PATH"]).stdout == f"{file.parent}:/usr/bin:/bin\n"
    os.chown(file.parent, NOBODY, NOBODY)
    assert runner.run(["sh", "-c", "echo $PATH"]).stdout == "/usr/bin:/bin\n"
