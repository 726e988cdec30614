# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Directories in directories, thousands deep: in the live tree, in archives, and in what has to be removed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import tar_writer
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import create_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Entry, Header
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_writer import ArchiveWriter
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CaptureError,
    ExitStatus,
    HostileArchiveError,
    TradekeepError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.files import remove_tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.look import Looker
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.origin_directory import left_in
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.scan import scan
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

DEPTHS = [1_000, 4_000]  # beyond what a recursion survives, and beyond what a path can name twice over


def dig(top: Path, levels: int, name: str = "d", *, link: str = "") -> None:
    """Directories in directories, as a bot makes them: from within. A file lies in the lowest, links on the way."""
    script = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "for n in range(int(sys.argv[2])):\n"
        "    os.mkdir(sys.argv[3]); os.chdir(sys.argv[3])\n"
        "    if n % 97 == 0 and sys.argv[4]: os.symlink(sys.argv[4], 'link')\n"
        "open('bottom', 'w').close()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(top), str(levels), name, link], check=True)


class Bench:
    """An application without anything of the system."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.notes: list[str] = []
        notes = self.notes

        class Progress(NoProgress):
            def note(self, text: str) -> None:
                notes.append(text)

        self.ports = Ports(SubprocessRunner(), SystemClock(), Progress())
        self.application = self.with_files()
        tree(self.application, self.ports, fix=True)
        self.data = base / "root/data"
        self.data.mkdir(mode=0o700, exist_ok=True)
        (self.data / "known").write_text("x")

    def with_files(self, *files: dict[str, object]):
        return resolve_application(
            {"name": "bot", "components": {"data": {"paths": ["data"], "files": list(files)}}},
            become=False,
            **{name: str(self.base / name) for name in ("backup_dir", "state_dir", "config_dir", "bin_dir")},
            root=str(self.base / "root"),
        )


def place_in(parent: str | None) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="tradekeep-test-", dir=parent))
    yield place
    subprocess.run(["rm", "-rf", str(place)], check=True)


@pytest.fixture
def base() -> Iterator[Path]:
    """In memory where that can be: disks take long for thousands of levels."""
    yield from place_in("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


@pytest.fixture
def bench() -> Iterator[Bench]:
    for place in place_in(None):
        yield Bench(place)


@pytest.mark.parametrize("levels", DEPTHS)
def test_a_backup_leaves_out_what_lies_too_deep_and_names_it(bench: Bench, levels: int) -> None:
    dig(bench.data, levels)
    begun = time.monotonic()
    outcome = backup(bench.application, bench.ports)
    assert time.monotonic() - begun < 60
    assert outcome.status is ExitStatus.DONE
    (warning,) = outcome.record["warnings"]
    assert warning.startswith("data/d/d/d")
    assert warning.endswith("lies more than 100 directories deep or has too long a path, left out with all in it")
    assert verify(bench.application, bench.ports, reference="latest").status is ExitStatus.DONE


def test_long_names_are_as_deep_as_many(bench: Bench) -> None:
    """What could be read by no path, or restored to none, is left out."""
    dig(bench.data, 40, "n" * 250)
    outcome = backup(bench.application, bench.ports)
    (warning,) = outcome.record["warnings"]
    assert len(warning) < 2_000
    (bench.data / "known").unlink()
    restore(bench.application, bench.ports, reference="latest")
    assert (bench.data / "known").read_text() == "x"


def test_a_file_that_is_required_and_lies_too_deep_fails_the_backup(bench: Bench) -> None:
    path = "data/" + "d/" * 150 + "bottom"
    dig(bench.data, 150)
    application = bench.with_files({"pattern": path, "required": True})
    shallow = backup(bench.application, bench.ports)
    assert shallow.record["warnings"]
    with pytest.raises(CaptureError) as caught:
        backup(application, bench.ports)
        backup(application, bench.ports)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("levels", DEPTHS)
def test_what_lies_too_deep_stops_no_tree_and_no_restore(bench: Bench, levels: int) -> None:
    backup(bench.application, bench.ports)
    dig(bench.data, levels)
    outcome = tree(bench.application, bench.ports, fix=True)
    assert [line for line in (*outcome.lines, *bench.notes) if "more than 100 directories deep" in line]
    (bench.data / "known").write_text("other")
    restore(bench.application, bench.ports, reference="latest")
    assert (bench.data / "known").read_text() == "x"
    assert (bench.data / "d/d/d").is_dir()


@pytest.mark.parametrize("levels", DEPTHS)
def test_what_no_component_has_is_named_without_looking_into_the_depth(bench: Bench, levels: int) -> None:
    dig(bench.data, levels)
    seen = {found.path for found in scan(bench.application)}
    assert f"data{'/d' * 100}/" in left_in(bench.application, bench.base / "root", seen)


@pytest.mark.parametrize("levels", DEPTHS)
def test_a_deploy_takes_what_lies_too_deep_for_data(bench: Bench, levels: int) -> None:
    dig(bench.data, levels)
    look = Looker(bench.base / "root")
    below = list(look.files_below("data"))
    assert len(below) < 200
    assert any(path.endswith("d/d/d") for path in below)
    directories = look.directories_below("data")
    assert directories[-1] == "data"
    assert len(directories) < 200


def archive_of(base: Path, *paths: str) -> Path:
    target = base / "hostile.tar.gz"
    with create_container(target, runner=SubprocessRunner()) as container:
        writer = ArchiveWriter(container.stream, Header("bot", "bot", "", "2026-01-02T03:04:05Z"))
        for path in paths:
            writer.add_file(Entry(path, "file", mode=0o600, owner="a", group="a", mtime_ns=1), io.BytesIO(b"x"), 1)
        writer.finish()
    return target


def foreign_archive_of(base: Path, *paths: str) -> Path:
    target = base / "foreign.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        for path in paths:
            member = tarfile.TarInfo(path)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    return target


@pytest.mark.parametrize("made", [archive_of, foreign_archive_of])
@pytest.mark.parametrize("levels", [300, 1_000, 2_000])
def test_an_archive_of_so_many_levels_is_refused(
    bench: Bench, made, levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as careless:
        careless.setattr(tar_writer, "safe_relative", str)
        path = made(bench.base, "data/known", "data/" + "d/" * levels + "bottom")
    for attempt in (
        lambda: restore(bench.application, bench.ports, reference=str(path)),
        lambda: restore(bench.application, bench.ports, reference=str(path), to=str(bench.base / "elsewhere")),
        lambda: verify(bench.application, bench.ports, reference=str(path)),
    ):
        said = ""
        try:
            outcome = attempt()
            said = "\n".join(outcome.lines)
            assert outcome.status is ExitStatus.FINDINGS
        except HostileArchiveError as error:
            said = str(error)
        assert "more than 256 levels" in said
    assert not (bench.data / "d").exists()


def test_an_archive_of_names_too_long_for_a_stage_ends_in_one_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as careless:
        careless.setattr(tar_writer, "safe_relative", str)
        path = archive_of(bench.base, "data/" + "/".join(["n" * 250] * 16) + "/" + "m" * 60)
    with pytest.raises(TradekeepError) as caught:
        restore(bench.application, bench.ports, reference=str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status is ExitStatus.FAILED
    assert os.listdir(bench.data) == ["known"]


@pytest.mark.parametrize("levels", [1_000, 10_000])
def test_removing_a_tree_of_so_many_levels_follows_nothing(base: Path, levels: int) -> None:
    doomed = base / "doomed"
    doomed.mkdir()
    (base / "outside").mkdir()
    (base / "outside/kept").write_text("x")
    (doomed / "link").symlink_to(base / "outside")
    dig(doomed, levels, link=str(base / "outside"))
    begun = time.monotonic()
    assert remove_tree(doomed) is True
    assert time.monotonic() - begun < 60
    assert not doomed.exists()
    assert (base / "outside/kept").read_text() == "x"
    assert remove_tree(doomed) is False


def test_removing_a_tree_of_many_levels_needs_no_rights_in_it(base: Path) -> None:
    """An ordinary user's own directories without any right, as a restore stages them."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become an account without rights")
    base.chmod(0o755)
    doomed = base / "own/doomed"
    doomed.mkdir(parents=True)
    for path in (base / "own", doomed):
        os.chown(path, 65534, 65534)
    child = os.fork()
    if child == 0:  # pragma: no cover
        status = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.makedirs(doomed / "a/b/c")
            (doomed / "a/b/c/file").touch()
            for path in ("a/b/c", "a/b", "a"):
                (doomed / path).chmod(0)
            doomed.chmod(0o500)
            status = 0 if remove_tree(doomed) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not doomed.exists()


def test_a_directory_that_is_moved_away_while_it_is_removed_takes_nothing_else_along(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner moves a directory elsewhere while root is in it: its '..' leads to what must stay."""
    doomed, other = base / "doomed", base / "other"
    (doomed / "a/b").mkdir(parents=True)
    (other / "b").mkdir(parents=True)
    (other / "empty").mkdir()
    real, moved = os.scandir, []

    def scandir(where):
        listing = real(where)
        if isinstance(where, int) and os.path.realpath(f"/proc/self/fd/{where}").endswith("doomed/a/b") and not moved:
            moved.append(True)
            (other / "b").rmdir()
            (doomed / "a/b").rename(other / "b")
        return listing

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(TradekeepError):
        remove_tree(doomed)
    assert moved
    assert sorted(os.listdir(other)) == ["b", "empty"]
