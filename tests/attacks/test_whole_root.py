# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot that is taken over, has the whole root as its data, and writes git's index, which says what is code."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git import not_data
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore

from .conftest import BOT, Victim, as_bot, needs_root

pytestmark = needs_root
FIXED = struct.pack("!10L", *[0] * 6, 0o100644, 0, 0, 0) + bytes(20)
PROFILE = {"name": "whole", "owner": "root", "components": {"all": {"paths": ["."], "critical": True}}}


class Whole(Victim):
    """The root is a checkout with data beside its code."""

    def __init__(self, base: Path) -> None:
        super().__init__(base, PROFILE)
        self.make_tree()
        as_bot(self._fill)
        self.again()

    def again(self) -> None:
        """Another run of the program: nothing is known of what git tracks."""
        beside = not_data.BesideData(dataclasses.replace(self.application))
        profile = dataclasses.replace(self.application.profile, not_data=beside)
        self.application = dataclasses.replace(self.application, profile=profile)

    def _fill(self) -> None:
        git = ["git", "-C", str(self.root), "-c", "core.hooksPath=/dev/null"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root), "GIT_CONFIG_GLOBAL": "/dev/null"}
        subprocess.run([*git, "init", "--quiet"], check=True, env=environment)
        (self.root / "bot.py").write_text("print(1)\n")
        subprocess.run([*git, "add", "bot.py"], check=True, env=environment)
        (self.root / "keys.json").write_text('{"key": 1}\n')
        (self.root / ".git").chmod(0o700)

    def held(self) -> set[str]:
        self.again()
        made = backup(self.application, self.ports).record["backup"]["path"]
        with tarfile.open(made) as archive:
            return {item.name for item in archive if item.isfile()} - {"MANIFEST.json"}


@pytest.fixture
def whole(base: Path) -> Whole:
    return Whole(base)


def entry(name: bytes) -> bytes:
    """One of version 2."""
    fixed = FIXED + struct.pack("!H", min(len(name), 0xFFF)) + name
    return fixed + bytes(8 - len(fixed) % 8)


def index(names: list[bytes]) -> bytes:
    return summed(struct.pack("!4sLL", b"DIRC", 2, len(names)) + b"".join(map(entry, names)))


def summed(body: bytes) -> bytes:
    return body + hashlib.sha1(body).digest()


def test_the_index_is_read_with_the_rights_of_the_bot_in_a_process_of_its_own(whole: Whole, monkeypatch) -> None:
    told = whole.base / "told"
    told.mkdir()
    told.chmod(0o777)
    real = not_data.look_at

    def look_at(tops):
        (told / f"{os.getpid()}").write_text(f"{os.geteuid()} {os.getgroups()}")
        return real(tops)

    monkeypatch.setattr(not_data, "look_at", look_at)
    assert whole.held() == {"keys.json"}
    (one,) = told.iterdir()
    assert one.name != str(os.getpid()) and one.read_text().startswith(f"{BOT} ")


@pytest.mark.parametrize("how", ["a file that says where", "a link", "a link to the index", "a pipe"])
def test_an_index_that_leads_to_root_is_not_read(whole: Whole, how: str) -> None:
    git, secret = whole.root / ".git", whole.secret
    (secret / "index").write_bytes(index([b"keys.json"]))

    def lead() -> None:
        if how in ("a link to the index", "a pipe"):
            (git / "index").unlink()
            (git / "index").symlink_to(secret / "index") if how != "a pipe" else os.mkfifo(git / "index")
            return
        git.rename(whole.root / "git")
        git.symlink_to(secret) if how == "a link" else git.write_text(f"gitdir: {secret}\n")

    as_bot(lead)
    with pytest.raises(TradekeepError, match="git's index cannot tell code from data"):
        whole.held()
    assert not list(whole.backups.glob("*.tar.gz"))


def test_an_index_that_says_much_with_few_bytes_has_an_end(whole: Whole) -> None:
    """In version 4 an entry says how much of the name before it still holds."""
    again = FIXED + struct.pack("!H", 0xFFF) + b"\0b\0"
    body = struct.pack("!4sLL", b"DIRC", 4, 100_000) + FIXED + struct.pack("!H", 0xFFF) + b"\0" + b"a/" * 2000 + b"a\0"
    as_bot(lambda: (whole.root / ".git/index").write_bytes(summed(body + again * 99_999)))
    with pytest.raises(TradekeepError, match="its names have more than"):
        whole.held()


def test_data_that_the_index_claims_does_not_vanish_in_silence(whole: Whole) -> None:
    as_bot(lambda: (whole.root / "old.json").write_text("{}\n"))
    assert whole.held() == {"keys.json", "old.json"}
    claimed = [b"bot.py", b"keys.json", b"../../secret/shadow", b"/etc/passwd", b".git/index", b"a/" * 500_000 + b"a"]
    as_bot(lambda: (whole.root / ".git/index").write_bytes(index(claimed)))
    assert whole.held() == {"old.json"}
    assert any("left out since the last backup held it" in line and "keys.json" in line for line in whole.notes.lines)
    as_bot(lambda: (whole.root / ".git/index").write_bytes(index([b"bot.py", b"keys.json", b"old.json"])))
    with pytest.raises(TradekeepError, match="component all held 1 file"):
        whole.held()


def test_a_restore_changes_neither_what_the_index_claims_nor_git(whole: Whole) -> None:
    whole.held()
    before = (whole.root / ".git/index").read_bytes()
    as_bot(lambda: (whole.root / "keys.json").write_text("other\n"))
    as_bot(lambda: (whole.root / "bot.py").write_text("edited\n"))
    whole.again()
    restore(whole.application, whole.ports)
    assert (whole.root / "keys.json").read_text() == '{"key": 1}\n'
    assert ((whole.root / "bot.py").read_text(), (whole.root / ".git/index").read_bytes()) == ("edited\n", before)
    assert (whole.root / "keys.json").stat().st_uid == BOT and whole.is_untouched()
