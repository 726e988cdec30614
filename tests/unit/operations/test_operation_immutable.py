# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody has locked with chattr(1): nothing is damaged, and the error says how to unlock it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus, TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.faults import foreseen
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem import immutable
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog

MODE = "state/account_mode.json"


def chattr(flag, path):
    return subprocess.run(["chattr", flag, path], capture_output=True)


@pytest.fixture
def locked(tmp_path):
    """Locks for the time of a block; skips where neither the account nor the filesystem can."""

    @contextlib.contextmanager
    def lock(path, letter="i"):
        if shutil.which("chattr") is None or chattr(f"+{letter}", path).returncode:
            pytest.skip("nothing can be locked here")
        try:
            yield
        finally:
            chattr(f"-{letter}", path)

    return lock


@pytest.fixture
def changed(bench):
    """A document that a restore would replace."""
    document = bench.root / MODE
    document.write_text('{"mode": "demo"}')
    backup(bench.application, bench.ports)
    document.write_text('{"mode": "live"}')
    return bench


@pytest.mark.parametrize(
    ("place", "letter", "word"), [(MODE, "i", "immutable"), (MODE, "a", "append-only"), ("state", "i", "immutable")]
)
def test_hazard_c5_a_restore_over_a_locked_file_changes_nothing_and_says_how_to_unlock_it(
    changed, locked, place, letter, word
):
    before = changed.snapshot()
    with locked(changed.root / place, letter):
        for dry_run in (True, False):
            with pytest.raises(TradekeepError) as caught:
                restore(changed.application, changed.ports, reference="latest", dry_run=dry_run)
            assert caught.value.exit_status == ExitStatus.FAILED
            assert word in caught.value.message
            assert caught.value.path == str(changed.root / place)
            assert f"chattr -{letter} {changed.root / place}" in caught.value.hint
        assert changed.snapshot() == before
        assert backup(changed.application, changed.ports).status == ExitStatus.DONE
    assert not any("putting everything back" in note for note in changed.notes)
    assert restore(changed.application, changed.ports, reference="latest").changed is False


def test_what_a_restore_leaves_alone_may_be_locked(changed, locked):
    other = changed.root / "preferences/user_preferences.json"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("{}")
    backup(changed.application, changed.ports)
    (changed.root / MODE).write_text('{"mode": "other"}')
    with locked(other):
        assert restore(changed.application, changed.ports, reference="latest").changed


def test_a_locked_archive_and_a_locked_mode_are_said_as_such(changed, locked):
    catalog = LocalCatalog(changed.application, changed.ports.clock)
    newest = catalog.list()[0]
    with locked(newest.path), pytest.raises(TradekeepError, match="is immutable") as caught:
        catalog.remove(newest)
    assert f"chattr -i {newest.path}" in str(caught.value)
    document = changed.root / MODE
    document.chmod(0o666)
    with locked(document), pytest.raises(TradekeepError) as caught:
        tree(changed.application, changed.ports, fix=True)
    assert f"chattr -i {document}" in str(caught.value)


def test_without_a_lock_the_error_is_what_it_was(tmp_path, monkeypatch):
    file = tmp_path / "key.pem"
    file.write_text("x")
    denied = PermissionError(1, "Operation not permitted", str(file))
    assert "run it as the account" in str(foreseen(denied))
    monkeypatch.setattr(immutable.fcntl, "ioctl", lambda *_arguments: (0x80010).to_bytes(8, "little"))
    assert f"chattr -i {file}" in str(foreseen(denied))
    # Of a right that is missing a lock is not the reason.
    assert "run it as the account" in str(foreseen(PermissionError(13, "Permission denied", str(file))))
