# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories for another account, and what root needs while it acts as one."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import UnsafePathError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import Account
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.files import open_file_beneath
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.given import give_directory
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.identity import acting_as, acting_uid

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as somebody else")
OWNER = Account(name="#61234", uid=61234, gid=61235, home="/")


@pytest.fixture
def place() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="tradekeep-test-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def facts(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, status.st_mode & 0o7777


def test_a_directory_is_given_where_root_alone_can_change_it(place: Path) -> None:
    with acting_as(OWNER):
        assert give_directory(place / "above/new", OWNER)
        assert not give_directory(place / "above/new", OWNER)
    assert facts(place / "above/new") == (OWNER.uid, OWNER.gid, 0o700)
    assert facts(place / "above") == (0, 0, 0o755)


def test_what_an_account_can_make_it_makes_itself(place: Path) -> None:
    os.chown(place, OWNER.uid, OWNER.gid)
    place.chmod(0o755)
    assert give_directory(place / "above/new", OWNER, mode=0o750)
    assert facts(place / "above/new") == (OWNER.uid, OWNER.gid, 0o750)
    assert facts(place / "above") == (OWNER.uid, OWNER.gid, 0o755)


@pytest.mark.parametrize("uid", [OWNER.uid, 61236])
def test_nothing_is_given_where_somebody_else_could_exchange_it(place: Path, uid: int) -> None:
    os.chown(place, uid, -1)
    place.chmod(0o555)
    with pytest.raises(UnsafePathError, match="others can change the directory above it"):
        give_directory(place / "new", OWNER)
    assert os.listdir(place) == []


def test_a_symlink_of_an_accounts_leads_root_nowhere(place: Path) -> None:
    (place / "mine").mkdir(mode=0o700)
    (place / "theirs").mkdir()
    (place / "theirs/link").symlink_to(place / "mine")
    os.chown(place / "theirs", OWNER.uid, OWNER.gid)
    with pytest.raises(UnsafePathError, match="symlink"):
        give_directory(place / "theirs/link/new", OWNER)
    assert os.listdir(place / "mine") == []


def test_directories_that_can_be_entered_and_not_be_read_lead_on(place: Path) -> None:
    (place / "inner").mkdir()
    (place / "inner/file").write_bytes(b"1")
    with acting_as(OWNER):
        os.close(open_file_beneath(place / "inner", "file"))


def test_modules_are_loaded_whoever_acts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible puts them where root alone can read."""
    (place / "roots").mkdir(mode=0o700)
    (place / "roots/tradekeep_late_module.py").write_text("VALUE = 1\n", encoding="ascii")
    monkeypatch.syspath_prepend(str(place / "roots"))
    monkeypatch.delitem(sys.modules, "tradekeep_late_module", raising=False)
    importlib.invalidate_caches()
    with acting_as(OWNER):
        import tradekeep_late_module

        assert acting_uid() == OWNER.uid
        with pytest.raises(PermissionError):
            os.listdir(place / "roots")
    assert tradekeep_late_module.VALUE == 1
    assert acting_uid() == 0
