# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot that is taken over and waits for root to restore its data."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import Account
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem import beneath
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.identity import acting_as, privileged
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import restore_plan, restore_stage
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import pending
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.stage_directory import remove_stage

from .conftest import BOT, FILLS, SECRET, Victim, as_bot, needs_root

pytestmark = needs_root
OWN = "preferences/shadow"
ACCOUNT = Account(name=f"#{BOT}", uid=BOT, gid=BOT, home="/")


@pytest.fixture
def backed_up(victim: Victim) -> Victim:
    as_bot(lambda: (victim.root / OWN).write_text('{"version": 1}'))
    backup(victim.application, victim.ports)
    as_bot(lambda: (victim.root / OWN).write_text('{"version": 2}'))
    return victim


def stages(victim: Victim) -> list[Path]:
    return sorted(victim.root.glob(".tradekeep-stage-*"))


def test_what_is_restored_belongs_to_the_owner(backed_up: Victim) -> None:
    victim = backed_up
    (victim.root / FILLS).unlink()
    done = restore(victim.application, victim.ports)
    assert done.record["state"] == "restored"
    assert (victim.root / OWN).read_text() == '{"version": 1}'
    assert victim.rows() == 100
    for path in (OWN, FILLS):
        assert (victim.root / path).stat().st_uid == BOT
    assert not stages(victim)
    assert Path(done.record["safety_backup"]).stat().st_uid == 0
    assert not restore(victim.application, victim.ports).changed


def test_a_file_of_roots_does_not_become_the_bots_when_the_stage_is_swapped(backed_up: Victim, monkeypatch) -> None:
    victim, real = backed_up, restore_stage.give_rights

    def attack() -> None:
        for stage in stages(victim):
            # The stage's own place, and everything that it is reached by.
            stage.rename(stage.with_name("stolen"))
            (stage / "new").mkdir(parents=True)
            (stage / "new" / "preferences").symlink_to(victim.secret)

    def give_rights(application, entry, staged):
        if entry.path == OWN:
            as_bot(attack)
        return real(application, entry, staged)

    monkeypatch.setattr(restore_stage, "give_rights", give_rights)
    with contextlib.suppress(TradekeepError):
        restore(victim.application, victim.ports)
    assert victim.is_untouched()
    assert victim.leaked() == []


def test_a_directory_that_is_swapped_during_the_comparison_tells_nothing(backed_up: Victim, monkeypatch) -> None:
    victim, real = backed_up, restore_plan.digest
    preferences = victim.root / "preferences"
    told = victim.base / "told"
    told.mkdir()
    told.chmod(0o777)

    def digest(path):
        if path.endswith(OWN) and not (told / "swapped").exists():
            (told / "swapped").touch()
            preferences.rename(preferences.with_name("gone"))
            preferences.symlink_to(victim.secret)
        return real(path)

    monkeypatch.setattr(restore_plan, "digest", digest)
    with pytest.raises(TradekeepError, match="may not be read by the owner"):
        restore(victim.application, victim.ports, dry_run=True)
    assert victim.is_untouched()


def test_a_directory_that_is_swapped_before_the_exchange_gets_nothing(backed_up: Victim) -> None:
    victim = backed_up
    preferences = victim.root / "preferences"

    def attack() -> None:
        preferences.rename(preferences.with_name("gone"))
        preferences.symlink_to(victim.secret)

    def step(name: str) -> None:
        if name == "exchange" and not preferences.is_symlink():
            as_bot(attack)

    with pytest.raises(TradekeepError):
        restore(victim.application, victim.with_steps(step))
    assert victim.is_untouched()
    assert victim.leaked() == []

    def give_back() -> None:
        preferences.unlink()
        preferences.with_name("gone").rename(preferences)

    as_bot(give_back)
    recover(victim.application, victim.ports)
    assert pending(victim.state) is None
    assert (victim.root / OWN).read_text() == '{"version": 2}'


def test_the_safety_backup_holds_no_hard_link_to_a_file_of_roots(backed_up: Victim) -> None:
    victim = backed_up
    (victim.root / OWN).unlink()
    os.link(victim.secret / "shadow", victim.root / OWN)
    with contextlib.suppress(TradekeepError):
        restore(victim.application, victim.ports)
    with contextlib.suppress(FileNotFoundError):
        if (victim.root / OWN).stat().st_nlink > 1:
            (victim.root / OWN).unlink()
    for archive in victim.backups.glob("*.tar.gz"):
        import tarfile

        with tarfile.open(archive) as opened:
            assert all(SECRET not in opened.extractfile(item).read() for item in opened if item.isfile())
    assert (victim.secret / "shadow").stat().st_uid == 0
    assert (victim.secret / "shadow").stat().st_mode & 0o7777 == 0o600


def test_a_root_whose_parent_is_swapped_is_not_followed(victim: Victim) -> None:
    home = victim.base / "bot"
    hidden = victim.base / "hidden"
    (victim.base / "elsewhere").mkdir()
    (victim.base / "elsewhere" / "data").mkdir()
    home.rename(hidden)
    home.symlink_to(victim.base / "elsewhere")
    os.chown(victim.base, BOT, BOT)
    try:
        with pytest.raises(TradekeepError, match="symlink"):
            os.close(beneath.open_root(victim.root))
    finally:
        os.chown(victim.base, 0, 0)


def test_a_symlink_of_roots_is_followed(victim: Victim) -> None:
    short = victim.base / "short"
    short.symlink_to(victim.base / "bot")
    descriptor = beneath.open_root(short / "data")
    try:
        assert os.path.samestat(os.fstat(descriptor), victim.root.stat())
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("moment", ["exchanged", "start"])
def test_what_an_earlier_version_left_half_done_is_brought_to_its_end(backed_up: Victim, moment: str) -> None:
    """Its stages belonged to root."""
    victim = backed_up

    def step(name: str) -> None:
        if name == moment:
            for stage in stages(victim):
                for directory in (stage / "new", stage / "kept", stage):
                    with privileged():
                        os.chown(directory, 0, 0)
            os._exit(9)

    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            restore(victim.application, victim.with_steps(step))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    recovered = recover(victim.application, victim.ports)
    assert recovered.record["data"] == ("old" if moment == "exchanged" else "new")
    assert (victim.root / OWN).read_text() == f'{{"version": {2 if moment == "exchanged" else 1}}}'
    assert pending(victim.state) is None
    assert not stages(victim)


def test_a_stage_of_an_earlier_version_is_removed_and_nothing_of_roots_in_its_place(victim: Victim) -> None:
    left = victim.root / ".tradekeep-stage-0123456789abcdef"
    (left / "kept").mkdir(parents=True)
    (left / "kept" / "00000001").write_text("old")
    left.chmod(0o700)
    with acting_as(ACCOUNT):
        assert remove_stage(str(left))
    assert not left.exists()
    # What is not made like a stage stays, whatever it is called.
    victim.secret.rename(left)
    try:
        with acting_as(ACCOUNT), pytest.raises(TradekeepError):
            remove_stage(str(left))
    finally:
        left.rename(victim.secret)
    assert victim.is_untouched()


@pytest.mark.parametrize("reachable", [True, False])
def test_a_restore_elsewhere_goes_where_the_owner_cannot(backed_up: Victim, reachable: bool) -> None:
    """Such as below /root; everything is checked all the same, and belongs to the owner."""
    victim = backed_up
    place = victim.base / "elsewhere"
    place.mkdir(mode=0o755 if reachable else 0o700)
    done = restore(victim.application, victim.ports, to=str(place / "look"))
    assert done.record["state"] == "restored"
    assert (place / "look").stat().st_uid == 0
    assert (place / "look").stat().st_mode & 0o7777 == 0o700
    assert (place / "look" / OWN).read_text() == '{"version": 1}'
    assert (place / "look" / FILLS).stat().st_uid == BOT
    assert sorted(path.name for path in (place / "look").iterdir() if path.name.startswith(".")) == []
    assert list((victim.state / "scratch").iterdir()) == []


def test_a_damaged_database_is_found_where_the_owner_cannot_go(victim: Victim, monkeypatch) -> None:
    made = backup(victim.application, victim.ports).record["backup"]
    real = restore_stage.check_restored

    def check(entry, staged, ports):
        if entry.path == FILLS:
            with staged.open("r+b") as database:
                database.seek(4096)
                database.write(b"x" * 512)
        return real(entry, staged, ports)

    monkeypatch.setattr(restore_stage, "check_restored", check)
    place = victim.base / "elsewhere"
    place.mkdir(mode=0o700)
    with pytest.raises(TradekeepError):
        restore(victim.application, victim.ports, reference=made["name"], to=str(place / "look"))
    assert list((place / "look").iterdir()) == []


@pytest.mark.parametrize("path", [OWN, "preferences/of_root.json"], ids=["replaced", "removed"])
def test_what_the_owner_cannot_read_is_not_replaced(backed_up: Victim, path: str) -> None:
    """No safety backup could hold it."""
    victim = backed_up
    of_root = victim.root / path
    of_root.unlink(missing_ok=True)
    of_root.write_bytes(SECRET)
    of_root.chmod(0o600)
    with pytest.raises(TradekeepError, match="nothing could keep what would be replaced"):
        restore(victim.application, victim.ports)
    assert of_root.read_bytes() == SECRET
    assert victim.leaked() == []
    assert not stages(victim)


def killed_at(victim: Victim, moment: str) -> None:
    """A restore that the machine ends at this step."""

    def step(name: str) -> None:
        if name == moment:
            os._exit(9)

    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            restore(victim.application, victim.with_steps(step))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def exchange_root(victim: Victim, target: Path) -> None:
    """The bot puts a symlink in the place of its own root."""

    def work() -> None:
        victim.root.rename(victim.root.with_name("gone"))
        victim.root.symlink_to(target)

    as_bot(work)


def test_what_recover_removes_lies_in_the_tree_alone(backed_up: Victim) -> None:
    """A copy of the tree that root made meanwhile has a stage of the same name."""
    victim = backed_up
    killed_at(victim, "exchanged")
    (stage,) = stages(victim)
    copied = victim.base / "copy" / stage.name / "kept" / "file"
    copied.parent.mkdir(parents=True)
    copied.write_text("root's")

    def step(name: str) -> None:
        if name == "clean":
            exchange_root(victim, victim.base / "copy")

    with pytest.raises(TradekeepError):
        recover(victim.application, victim.with_steps(step))
    assert copied.read_text() == "root's"


def test_a_top_that_is_swapped_before_the_exchange_gets_nothing(backed_up: Victim) -> None:
    """Root makes a copy of the tree just then, in which every name of it lies, those of the stage included."""
    victim, copy = backed_up, backed_up.base / "copy"
    before: list[tuple[str, int, int]] = []

    def state_of_copy() -> list[tuple[str, int, int]]:
        found = [(path, path.lstat()) for path in sorted(copy.rglob("*"))]
        return [(str(path), status.st_ino, status.st_ctime_ns) for path, status in found]

    def step(name: str) -> None:
        if name == "exchange" and not copy.exists():
            with privileged():
                shutil.copytree(victim.root, copy, symlinks=True)
                before.extend(state_of_copy())
            exchange_root(victim, copy)

    with contextlib.suppress(TradekeepError):
        restore(victim.application, victim.with_steps(step))
    assert before and state_of_copy() == before
    assert victim.leaked() == []
