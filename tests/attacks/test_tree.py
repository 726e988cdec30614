# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot that is taken over and waits for root to make its tree: templates, credentials, owners and modes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem import beneath
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.identity import acting_uid
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import Credential, tree

from .conftest import BOT, Victim, as_bot, needs_root, swap

pytestmark = needs_root
CREDENTIAL = "credentials/kalshi-credentials/prod/kalshi.pem"
TEMPLATE = "state/account_mode.json"


def test_the_tree_and_its_documents_belong_to_the_owner(victim: Victim) -> None:
    tree(victim.application, victim.ports, fix=True, credentials=[Credential(CREDENTIAL, b"key")])
    for path in (CREDENTIAL, "preferences"):
        status = (victim.root / path).stat()
        assert (status.st_uid, status.st_gid) == (BOT, BOT)
    assert (victim.root / CREDENTIAL).read_bytes() == b"key"
    assert not tree(victim.application, victim.ports, fix=True, credentials=[Credential(CREDENTIAL, b"key")]).changed


@pytest.mark.parametrize("path", ["credentials/kalshi-credentials/prod", "credentials"])
def test_a_credential_goes_nowhere_else_when_its_directory_is_swapped(victim: Victim, path: str) -> None:
    attack = swap(victim.root / path, victim.secret)

    def step(name: str) -> None:
        if name == f"tree write {CREDENTIAL}":
            attack()

    with pytest.raises(TradekeepError, match="symlink"):
        tree(victim.application, victim.with_steps(step), fix=True, credentials=[Credential(CREDENTIAL, b"key")])
    assert victim.is_untouched()


def test_a_mode_is_not_given_to_what_lies_elsewhere(victim: Victim) -> None:
    own = victim.root / "preferences" / "shadow"
    as_bot(lambda: own.write_text("{}"))
    own.chmod(0o666)
    attack = swap(victim.root / "preferences", victim.secret)

    def step(name: str) -> None:
        if name == "tree adjust preferences/shadow":
            attack()

    with pytest.raises(TradekeepError, match="symlink"):
        tree(victim.application, victim.with_steps(step), fix=True)
    assert victim.is_untouched()


def test_the_root_is_not_made_where_the_bot_leads_it(victim: Victim) -> None:
    def work() -> None:
        victim.root.rename(victim.root.with_name("gone"))
        victim.root.symlink_to(victim.secret / "data")

    as_bot(work)
    with pytest.raises(TradekeepError, match="symlink"):
        tree(victim.application, victim.ports, fix=True)
    assert victim.is_untouched()


def test_a_home_that_is_a_symlink_of_the_bots_leads_nowhere(base: Path) -> None:
    victim = Victim(base, root=str(base / "bot" / "app" / "data"))
    as_bot(lambda: (base / "bot" / "app").symlink_to(victim.secret))
    with pytest.raises(TradekeepError, match="symlink"):
        tree(victim.application, victim.ports, fix=True)
    assert victim.is_untouched()


def test_what_a_replaced_credential_held_is_read_in_the_tree_alone(victim: Victim) -> None:
    tree(victim.application, victim.ports, fix=True, credentials=[Credential(CREDENTIAL, b"old")])
    directory = (victim.root / CREDENTIAL).parent

    def work() -> None:
        directory.rename(directory.with_name("gone"))
        directory.symlink_to(victim.secret)

    def step(name: str) -> None:
        if name == f"tree replace {CREDENTIAL}":
            as_bot(work)

    (victim.secret / "kalshi.pem").write_text("root's own")
    with pytest.raises(TradekeepError, match="symlink"):
        tree(
            victim.application,
            victim.with_steps(step),
            fix=True,
            credentials=[Credential(CREDENTIAL, b"new", replace=True)],
        )
    (victim.secret / "kalshi.pem").unlink()
    assert victim.is_untouched()


def test_a_hard_link_is_not_given_away(victim: Victim) -> None:
    # What the kernel refuses the bot where fs.protected_hardlinks is set, an older one allows.
    os.link(victim.secret / "shadow", victim.root / "preferences" / "linked.json")
    with pytest.raises(TradekeepError, match="a second hard link lies in the data tree"):
        tree(victim.application, victim.ports, fix=True)
    os.unlink(victim.root / "preferences" / "linked.json")
    assert victim.is_untouched()


def test_a_hard_link_that_comes_after_the_plan_is_not_given_away(victim: Victim) -> None:
    own = victim.root / "preferences" / "own.json"
    as_bot(lambda: own.write_text("{}"))
    own.chmod(0o666)

    def step(name: str) -> None:
        if name == "tree adjust preferences/own.json":
            own.unlink()
            os.link(victim.secret / "shadow", own)

    with pytest.raises(TradekeepError, match="hard link"):
        tree(victim.application, victim.with_steps(step), fix=True)
    own.unlink()
    assert victim.is_untouched()


@pytest.mark.parametrize("way", ["in one step", "level by level"])
def test_no_level_is_followed_to_a_directory_of_roots(
    victim: Victim, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Which has the same names below it, as a copy that root made of the tree has."""
    if way == "level by level":
        monkeypatch.setattr(beneath, "_openat2", lambda *_arguments: None)
    copy = victim.base / "copy" / "kalshi-credentials" / "prod"
    copy.mkdir(parents=True)
    attack = swap(victim.root / "credentials", victim.base / "copy")

    def step(name: str) -> None:
        if name == f"tree write {CREDENTIAL}":
            attack()

    with pytest.raises(TradekeepError, match="symlink"):
        tree(victim.application, victim.with_steps(step), fix=True, credentials=[Credential(CREDENTIAL, b"key")])
    assert list(copy.iterdir()) == []


def test_what_is_made_in_a_directory_is_made_in_its_owners_name(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_bot(lambda: shutil.rmtree(victim.root / "preferences"))
    made: list[tuple[str, int]] = []

    def note(function: str) -> None:
        real = getattr(os, function)

        def noted(name, *arguments, **options):
            if "dir_fd" in options or "src_dir_fd" in options:
                made.append((os.fspath(name), acting_uid()))
            return real(name, *arguments, **options)

        monkeypatch.setattr(os, function, noted)

    note("mkdir")
    note("rename")
    tree(victim.application, victim.ports, fix=True, credentials=[Credential(CREDENTIAL, b"key")])
    assert "preferences" in [name for name, _uid in made]
    assert {uid for _name, uid in made} == {BOT}


def test_the_levels_above_a_root_belong_to_who_owns_the_one_above(base: Path) -> None:
    victim = Victim(base, root=str(base / "bot" / "app" / "data"))
    tree(victim.application, victim.ports, fix=True)
    assert (base / "bot" / "app").stat().st_uid == BOT
    assert (base / "bot" / "app" / "data").stat().st_uid == BOT
