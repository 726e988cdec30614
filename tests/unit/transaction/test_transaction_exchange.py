# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The exchange: new content in, or everything as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError, UnsafePathError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.mounts import device_roots
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction import exchange as exchange_module
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import Exchange, State, pending
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.plan import Replacement
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.stage import Stage, sweep_stages

OLD = {
    "fills.db": "old fills",
    "fills.db-wal": "old wal",
    "state": "a file that becomes a directory",
    "reports/may.json": "old report",
    "reports/june.json": "old report",
    "link": "-> fills.db",
}
NEW = {
    "fills.db": "new fills",
    "state/mode.json": "new state",
    "reports": "a directory that becomes a file",
    "fresh/deep/x.json": "added",
    "link": "-> reports",
}


def build(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)


def content_of(root: Path) -> dict[str, str]:
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(".tradekeep"):
            continue
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_text()
    return found


def replacements_for(stage: Stage, root: Path, old: dict[str, str], new: dict[str, str]) -> list[Replacement]:
    """Every path of either tree, directories of the new one included, as an operation would list them."""
    for name, content in new.items():
        staged = Path(stage.path_for(name))
        staged.parent.mkdir(parents=True, exist_ok=True)
        build(staged.parent, {staged.name: content})
    wanted = set(new) | {str(parent) for name in new for parent in Path(name).parents if str(parent) != "."}
    existing = set(old) | {str(parent) for name in old for parent in Path(name).parents if str(parent) != "."}
    result = []
    for name in sorted(wanted | existing):
        live = root / name
        if name in wanted and not (live.is_dir() and Path(stage.path_for(name)).is_dir()):
            result.append(Replacement(str(live), stage.path_for(name), stage.kept_for(name)))
        elif name not in wanted:
            result.append(Replacement(str(live), None, stage.kept_for(name)))
    return result


class Stopped(Exception):
    """What a test raises at a step."""


class Trees:
    def __init__(self, base: Path) -> None:
        self.root, self.state = base / "data", base / "state"
        self.root.mkdir()
        build(self.root, OLD)
        self.stage = Stage.create(self.state, device_roots(self.root))
        self.replacements = replacements_for(self.stage, self.root, OLD, NEW)

    def begin(self) -> Exchange:
        return Exchange.begin(
            self.state,
            operation="restore",
            replacements=self.replacements,
            stages=self.stage.directories,
            clock=SystemClock(),
        )

    def leftovers(self) -> list[str]:
        return [p.name for p in self.root.iterdir() if p.name.startswith(".tradekeep")] + [
            p.name for p in self.state.iterdir()
        ]


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


def test_apply_and_commit_leave_the_new_state_alone(trees: Trees) -> None:
    exchange = trees.begin()
    exchange.apply()
    assert content_of(trees.root) == NEW
    found = pending(trees.state)
    assert found is not None and found.state is State.EXCHANGED
    exchange.commit()
    trees.stage.remove()
    assert content_of(trees.root) == NEW
    assert trees.leftovers() == []


def test_undo_after_apply_restores_the_old_state(trees: Trees) -> None:
    inode = (trees.root / "fills.db").stat().st_ino
    exchange = trees.begin()
    exchange.apply()
    exchange.undo()
    exchange.undo()
    assert content_of(trees.root) == OLD
    assert (trees.root / "fills.db").stat().st_ino == inode
    exchange.clean()
    trees.stage.remove()
    assert trees.leftovers() == []


@pytest.mark.parametrize("links", [True, False])
def test_hazard_c1_undo_works_after_every_step(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:

        def refuse(*_args: object, **_keywords: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    number = 0
    while True:
        base = tmp_path / str(number)
        base.mkdir()
        trees = Trees(base)
        exchange = trees.begin()
        left = [number]

        def stop(name: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Stopped(name)

        try:
            exchange.apply(stop)
        except Stopped:
            resumed = Exchange.resume(trees.state)
            assert resumed is not None
            resumed.undo()
            assert content_of(trees.root) == OLD
            number += 1
            continue
        break
    assert number > len(NEW)


def test_hazard_c1_a_live_file_is_never_absent(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two calls the database is there, old or new."""
    seen = set()
    real = exchange_module.exchange_one
    path = trees.root / "fills.db"
    rename = os.rename

    def watched(*args: object, **keywords: object) -> None:
        seen.add(path.read_text())
        rename(*args, **keywords)  # type: ignore[arg-type]
        seen.add(path.read_text())

    monkeypatch.setattr(os, "rename", watched)
    trees.begin().apply()
    assert real is exchange_module.exchange_one
    assert seen == {"old fills", "new fills"}


def test_hazard_c1_a_stale_wal_is_removed_with_its_database(trees: Trees) -> None:
    exchange = trees.begin()
    exchange.apply()
    exchange.commit()
    assert not (trees.root / "fills.db-wal").exists()


def test_a_directory_with_unplanned_content_is_not_removed(trees: Trees) -> None:
    exchange = trees.begin()
    (trees.root / "reports" / "mine.txt").write_text("nobody planned for this")
    with pytest.raises(TradekeepError, match=r"still holds mine\.txt"):
        exchange.apply()
    exchange.undo()
    assert content_of(trees.root) == {**OLD, "reports/mine.txt": "nobody planned for this"}


def test_a_file_that_appears_meanwhile_is_not_overwritten(trees: Trees) -> None:
    exchange = trees.begin()
    (trees.root / "fresh").mkdir()
    (trees.root / "fresh" / "mine.txt").write_text("new of the bot")
    with pytest.raises(TradekeepError, match="appeared"):
        exchange.apply()
    exchange.undo()
    assert content_of(trees.root) == {**OLD, "fresh/mine.txt": "new of the bot"}


def test_a_symlink_planted_meanwhile_is_not_followed(trees: Trees, tmp_path: Path) -> None:
    exchange = trees.begin()
    outside = tmp_path / "outside"
    (trees.root / "reports").rename(outside)
    (trees.root / "reports").symlink_to(outside)
    with pytest.raises(UnsafePathError, match="symlink"):
        exchange.apply()
    assert sorted(p.name for p in outside.iterdir()) == ["june.json", "may.json"]


def test_a_second_transaction_is_refused_while_one_is_pending(trees: Trees) -> None:
    trees.begin()
    with pytest.raises(TradekeepError, match="tradekeep recover"):
        trees.begin()


def test_hazard_c5_another_filesystem_is_refused_before_anything_moves(trees: Trees, tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs /dev/shm on a filesystem of its own")
    foreign = shared / f"tradekeep-test-{os.getpid()}"
    foreign.write_text("staged on another filesystem")
    try:
        trees.replacements.append(Replacement(str(trees.root / "n"), str(foreign), trees.stage.kept_for("n")))
        with pytest.raises(UnsafePathError, match="another filesystem"):
            trees.begin()
    finally:
        foreign.unlink()
    assert pending(trees.state) is None


def test_a_stage_that_a_crash_left_is_swept(trees: Trees) -> None:
    assert sweep_stages(trees.state) == trees.stage.directories
    assert trees.leftovers() == []


def test_a_stage_of_a_pending_transaction_is_not_swept(trees: Trees) -> None:
    trees.begin()
    assert sweep_stages(trees.state) == ()
    assert all(Path(directory).is_dir() for directory in trees.stage.directories)


def test_a_stage_is_private_whatever_the_umask(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    before = os.umask(0)
    try:
        with Stage.create(tmp_path / "state", device_roots(root)) as stage:
            stage.path_for("x")
            stage.sync()
            assert [oct(Path(d).stat().st_mode & 0o7777) for d in stage.directories] == ["0o700"]
    finally:
        os.umask(before)
    assert list(root.iterdir()) == []
    assert list((tmp_path / "state").iterdir()) == []


def test_names_that_are_not_utf8_survive_the_plan(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    name = os.fsdecode(b"fills \xff\n.json")
    (root / name).write_text("old")
    stage = Stage.create(tmp_path / "state", device_roots(root))
    items = replacements_for(stage, root, {name: "old"}, {name: "new"})
    Exchange.begin(
        tmp_path / "state", operation="restore", replacements=items, stages=stage.directories, clock=SystemClock()
    ).apply()
    resumed = Exchange.resume(tmp_path / "state")
    assert resumed is not None
    resumed.undo()
    assert (root / name).read_text() == "old"


def test_many_replacements_need_few_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    root.mkdir()
    stage = Stage.create(tmp_path / "state", device_roots(root))
    stage.path_for("x")
    directory = Path(stage.path_for("x")).parent
    count = 20_000
    for number in range(count):
        os.close(os.open(directory / f"{number}", os.O_CREAT | os.O_WRONLY, 0o600))
    items = [
        Replacement(str(root / f"{number}"), str(directory / f"{number}"), stage.kept_for(f"{number}"))
        for number in range(count)
    ]
    syncs = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (syncs.append(descriptor), real(descriptor)))
    exchange = Exchange.begin(
        tmp_path / "state", operation="restore", replacements=items, stages=stage.directories, clock=SystemClock()
    )
    exchange.apply()
    exchange.commit()
    assert len(list(root.iterdir())) == count
    assert len(syncs) < 30
