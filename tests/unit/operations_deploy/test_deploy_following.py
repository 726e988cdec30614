# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Data that is followed by what the kernel tells: never another verdict than a look at everything gives."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import watch
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import current_account
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.mounts import Mount
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.base import CaptureContext
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy import data_reader, following
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.bots_writes import BotsWrites
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.data_reader import DataReader
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.proof import Witness
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.watched import Watched
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

LINES = b"a line of the bot's\n" * 20


class Data:
    """Data of a bot in a checkout, outside of it, or both."""

    def __init__(self, base: Path, layout: str = "in_place") -> None:
        self.root = base / "live"
        self.notes: list[str] = []
        (base / "scratch").mkdir()
        for name in ("logs/bot.log", "data/prices.csv", "data/a/b/trades.jsonl", "data/c/state.json", "lib/code.py"):
            self.put(name, LINES)
        paths = {name: str(base / name) for name in ("state_dir", "backup_dir", "config_dir", "bin_dir")}
        directory = {} if layout == "in_place" else {"directory": str(base / "releases")}
        profile = {
            "name": "bot",
            "components": {"data": {"paths": ["data"]}, "logs": {"paths": ["logs"]}},
            "deploy": {"layout": layout, **directory},
        }
        application = resolve_application(profile, root=str(self.root), owner="bot", become=False, **paths)
        ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())
        reader = DataReader(CaptureContext(base / "scratch", SystemClock()), current_account(), ports)
        self.witness = Witness(application, ("lib/code.py",), reader)
        self.writes = BotsWrites(application, reader)

    def put(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def watched(self) -> Watched:
        return Watched(self.witness, self.writes, self.notes.append)

    def damaged(self, watched: Watched) -> list[str]:
        return [line.split(": ")[0][len(str(self.root)) + 1 :] for line in watched.after().damaged]


@pytest.fixture(params=["in_place", "releases"])
def data(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Data:
    # The bot's connections are this process's here, and SQLite's must not be carried over a fork.
    monkeypatch.setattr(data_reader, "can_have_worker", lambda: False)
    return Data(tmp_path, request.param)


class Writer:
    """Does to files and directories what can be done to them, by chance."""

    def __init__(self, data: Data, seed: int) -> None:
        self.chance = random.Random(seed)
        self.root = data.root
        self.number = 0
        self.deeds: list[str] = []

    def some(self, wanted: Callable[[Path], bool]) -> Path | None:
        found = [path for name in ("data", "logs") for path in sorted((self.root / name).rglob("*")) if wanted(path)]
        return self.chance.choice(found) if found else None

    def place(self) -> Path:
        return self.some(Path.is_dir) or self.root / "logs"

    def fresh(self, suffix: str = "") -> Path:
        self.number += 1
        return self.place() / f"new{self.number}{suffix}"

    def deed(self) -> None:
        deeds = [self.create, self.append, self.append, self.truncate, self.remove, self.rename, self.replace]
        deeds += [self.rotate, self.touch, self.make_directories, self.rename_directory, self.remove_directory]
        deed = self.chance.choice(deeds)
        self.deeds.append(deed.__name__)
        deed()

    def create(self) -> None:
        self.fresh(self.chance.choice([".log", ".jsonl", ".json", ".tmp"])).write_bytes(LINES)

    def make_directories(self) -> None:
        deep = self.fresh() / "deeper"
        deep.mkdir(parents=True)
        (deep / "some.jsonl").write_bytes(LINES)

    def rename_directory(self) -> None:
        directory, target = self.some(Path.is_dir), self.fresh()
        if directory is not None and directory not in target.parents:
            directory.rename(target)

    def remove_directory(self) -> None:
        directory = self.some(Path.is_dir)
        if directory is not None:
            shutil.rmtree(directory)

    def on_file(self, do: Callable[[Path], object]) -> None:
        path = self.some(Path.is_file)
        if path is not None:
            do(path)

    def append(self) -> None:
        self.on_file(lambda path: path.write_bytes(path.read_bytes() + b"more\n"))

    def truncate(self) -> None:
        self.on_file(lambda path: os.truncate(path, path.stat().st_size // 2))

    def touch(self) -> None:
        self.on_file(lambda path: path.chmod(self.chance.choice([0o600, 0o644])))

    def remove(self) -> None:
        self.on_file(Path.unlink)

    def rename(self) -> None:
        self.on_file(lambda path: path.rename(self.fresh(path.suffix)))

    def rotate(self) -> None:
        self.on_file(lambda path: (path.rename(f"{path}.1"), path.write_bytes(b"anew\n")))

    def replace(self) -> None:
        def other(path: Path) -> None:
            Path(f"{path}.tmp").write_bytes(path.read_bytes())
            Path(f"{path}.tmp").replace(path)

        self.on_file(other)


@pytest.mark.parametrize("seed", range(60))
def test_hazard_d15_what_the_kernel_tells_gives_the_verdict_of_a_look_at_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    data = Data(tmp_path, ("in_place", "releases")[seed % 2])
    writer = Writer(data, seed)
    with closing(data.watched()) as ours, monkeypatch.context() as patched:
        patched.setattr(Watched, "_follow", lambda _watched: None)
        looking = data.watched()
        for _number in range(writer.chance.randrange(6)):
            writer.deed()
        for watched in (ours, looking):
            watched.before()
        for _number in range(writer.chance.randrange(4)):
            writer.deed()
        assert ours.after().as_dict() == looking.after().as_dict(), writer.deeds
    assert data.notes == []


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[int], None]]:
    def limit(directories: int) -> None:
        (tmp_path / "maximum").write_text(f"{2 * directories}\n")
        monkeypatch.setattr(watch, "_MAXIMUM", tmp_path / "maximum")

    return limit


def test_hazard_d15_where_not_all_directories_can_be_watched_all_is_looked_at(data: Data, limited) -> None:
    limited(3)
    with closing(data.watched()) as watched:
        watched.before()
        (data.root / "data/a/b/trades.jsonl").unlink()
        assert data.damaged(watched) == ["data/a/b/trades.jsonl"]
    assert len(data.notes) == 1
    assert "max_user_watches" in data.notes[0]


@pytest.mark.parametrize("filesystem", ["nfs4", "fuse.sshfs", "9p", "never heard of", None])
def test_hazard_d15_where_others_can_write_without_the_kernels_knowledge_all_is_looked_at(
    data: Data, monkeypatch: pytest.MonkeyPatch, filesystem: str | None
) -> None:
    mounts = (Mount("7", str(data.root), filesystem),) if filesystem else ()
    monkeypatch.setattr(following, "mounts_holding", lambda path: mounts)
    with closing(data.watched()) as watched:
        watched.before()
        (data.root / "data/a/b/trades.jsonl").unlink()
        assert data.damaged(watched) == ["data/a/b/trades.jsonl"]
    assert len(data.notes) == 1
    assert (f"does not tell all of {filesystem}" if filesystem else "is not known") in data.notes[0]


def overflow(data: Data) -> None:
    """More than the kernel keeps: two files by turns, as it tells the same twice in a row only once."""
    kept = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    names = [data.root / "logs/bot.log", data.root / "data/prices.csv"]
    for number in range(kept + 10):
        os.utime(names[number % 2])


@pytest.mark.parametrize("at", ["rest", "end"])
def test_hazard_d15_when_too_much_is_written_for_the_kernel_to_tell_all_is_looked_at(data: Data, at: str) -> None:
    with closing(data.watched()) as watched:
        if at == "rest":
            overflow(data)
        watched.before()
        if at == "end":
            overflow(data)
        (data.root / "data/a/b/trades.jsonl").unlink()
        assert data.damaged(watched) == ["data/a/b/trades.jsonl"]
    assert len(data.notes) == 1
    assert "max_queued_events" in data.notes[0]


def test_what_is_missed_while_the_bot_runs_is_looked_at_while_it_runs(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, missed = Witness._sample, []

    def slow(witness: Witness, path: str) -> object:
        if not missed:
            missed.append(path)
            overflow(data)
            data.put("data/meanwhile.csv", LINES)
        return sample(witness, path)

    monkeypatch.setattr(Witness, "_sample", slow)
    with closing(data.watched()) as watched:
        watched.before()
        (data.root / "data/meanwhile.csv").unlink()
        assert data.damaged(watched) == ["data/meanwhile.csv"]
    assert (len(missed), data.notes) == (1, [])


def test_hazard_d15_what_the_bot_made_until_it_ended_is_watched_too(data: Data) -> None:
    with closing(data.watched()) as watched:
        data.put("data/2026/11/orders.jsonl", LINES)
        watched.before()
        (data.root / "data/2026/11/orders.jsonl").unlink()
        assert data.damaged(watched) == ["data/2026/11/orders.jsonl"]
        data.put("data/2026/11/orders.jsonl", LINES)
    assert data.notes == []


def test_hazard_d15_a_directory_has_one_name_after_it_was_renamed(data: Data) -> None:
    with closing(data.watched()) as watched:
        (data.root / "data/a").rename(data.root / "data/z")
        watched.before()
        (data.root / "data/z/b/trades.jsonl").unlink()
        assert data.damaged(watched) == ["data/z/b/trades.jsonl"]
    assert data.notes == []


def test_hazard_d15_data_that_is_moved_as_a_whole_is_missed(data: Data, tmp_path: Path) -> None:
    """In the directories themselves nothing happens then."""
    with closing(data.watched()) as watched:
        watched.before()
        data.root.rename(tmp_path / "away")
        assert "data/prices.csv" in data.damaged(watched)


def test_hazard_d15_data_that_is_mounted_over_is_missed(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(data.watched()) as watched:
        watched.before()
        monkeypatch.setattr(following, "mounts_holding", lambda path: (Mount("999", path, "ext4"),))
        watched.after()
    assert len(data.notes) == 1
    assert "mounted meanwhile" in data.notes[0]


def test_hazard_d15_rows_that_go_in_the_wal_alone_are_missed(data: Data) -> None:
    database = sqlite3.connect(data.root / "data/fills.db", isolation_level=None)
    with closing(database), closing(database.cursor()) as cursor:
        cursor.execute("pragma journal_mode=wal")
        cursor.execute("create table fills(id)")
        cursor.execute("insert into fills values (1), (2)")
        with closing(data.watched()) as watched:
            watched.before()
            cursor.execute("delete from fills where id = 2")
            assert data.damaged(watched) == ["data/fills.db"]
    assert data.notes == []


def test_hazard_d15_what_is_made_while_a_directory_is_looked_into_is_not_overlooked(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def slow(path: str) -> list[os.DirEntry[str]]:
        entries = list(scandir(path))
        if path == str(data.root / "data/c"):
            data.put("data/c/orders.jsonl", LINES)
        return entries

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", slow)
        watched = data.watched()
    with closing(watched):
        watched.before()
        (data.root / "data/c/orders.jsonl").unlink()
        assert data.damaged(watched) == ["data/c/orders.jsonl"]


def test_a_bot_that_never_rests_is_read_to_the_end(data: Data) -> None:
    """While this is read, the next is there already."""
    (data.root / "many").mkdir()
    with closing(watch.Watch()) as watching:
        assert watching.add(str(data.root / "nowhere")) is None
        assert watching.add(str(data.root / "many")) is not None
        for number in range(3000):
            (data.root / "many" / f"{number:040}").touch()
        assert len({event.name for event in watching.events()}) == 3000
        assert watching.events() == []
