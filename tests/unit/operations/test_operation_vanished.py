# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup disk that is not mounted: where every backup on record is gone at once, nobody acts as if there was none."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CaptureError, ExitStatus, TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.backup_first import (
    backup_first,
    rehearse_backup,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.state import show_state
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify

GONE = "the backup that is on record is not there: its disk is not mounted, or it was removed"
WAY_OUT = "tradekeep backup --allow-loss backups"


class Later(SystemClock):
    def now(self):
        return super().now() + timedelta(hours=1)


@pytest.fixture
def unmounted(bench, tmp_path):
    """One backup, on a disk that is no more where it was: a directory without anything stands in its place."""
    bench.database().close()
    backup(bench.application, bench.ports)
    bench.backups.rename(tmp_path / "disk")
    bench.backups.mkdir(mode=0o700)
    return bench


def later(bench):
    return dataclasses.replace(bench.ports, clock=Later())


def archives(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.tar.gz") if not path.is_symlink())


@pytest.mark.parametrize("dry_run", [True, False])
def test_hazard_b3_no_backup_is_written_where_the_disk_of_all_others_is_not_mounted(unmounted, dry_run):
    with pytest.raises(TradekeepError) as caught:
        backup(unmounted.application, later(unmounted), dry_run=dry_run)
    assert caught.value.exit_status == ExitStatus.FAILED
    assert GONE in caught.value.message
    assert caught.value.path == str(unmounted.backups)
    assert WAY_OUT in caught.value.hint
    assert "mount" in caught.value.hint
    assert list(unmounted.backups.iterdir()) == []


def test_what_asks_for_backups_says_that_they_are_gone(unmounted):
    application, ports = unmounted.application, later(unmounted)
    for ask in (
        lambda: restore(application, ports, reference="latest"),
        lambda: restore(application, ports, reference="latest", dry_run=True),
        lambda: verify(application, ports, reference="all"),
        lambda: prune(application, ports, dry_run=False),
        lambda: prune(application, ports, dry_run=True),
    ):
        with pytest.raises(TradekeepError, match="is not mounted") as caught:
            ask()
        assert caught.value.exit_status == ExitStatus.FAILED
    drilled = drill(application, ports)
    assert drilled.status == ExitStatus.FINDINGS
    assert any(GONE in line for line in drilled.lines)
    for show in (list_backups, show_state, check_configuration):
        shown = show(application, ports)
        assert shown.status == ExitStatus.FINDINGS
        assert any(GONE in line for line in shown.lines)
        assert "no backups yet" not in shown.lines
    assert list(unmounted.backups.iterdir()) == []


def test_a_directory_that_went_with_its_disk_is_not_made_anew(unmounted):
    unmounted.backups.rmdir()
    with pytest.raises(TradekeepError, match="is not mounted"):
        backup(unmounted.application, later(unmounted))
    with pytest.raises(TradekeepError, match="is not mounted"):
        prune(unmounted.application, later(unmounted), dry_run=False)
    assert not unmounted.backups.exists()


def test_a_deploy_does_not_back_up_to_the_disk_beneath(unmounted):
    for make in (backup_first, rehearse_backup):
        with pytest.raises(TradekeepError, match="is not mounted"):
            make(unmounted.application, later(unmounted))
    assert list(unmounted.backups.iterdir()) == []


def test_a_new_directory_is_a_word_and_said_once(unmounted):
    application, ports = unmounted.application, later(unmounted)
    with pytest.raises(TradekeepError, match="is not mounted"):
        # What lets data shrink says nothing of where backups go.
        backup(application, ports, allow_loss=("all",))
    assert backup(application, ports, allow_loss=("backups",)).status == ExitStatus.DONE
    assert len(archives(unmounted.backups)) == 1
    assert list_backups(application, ports).status == ExitStatus.DONE
    again = dataclasses.replace(ports, clock=SystemClock())
    assert backup(application, again).status == ExitStatus.DONE


def test_the_word_lets_no_data_be_lost(unmounted):
    connection = sqlite3.connect(unmounted.root / "databases/accounts/kalshi/demo/fills.db")
    connection.execute("DELETE FROM fills WHERE id > 1")
    connection.commit()
    connection.close()
    with pytest.raises(CaptureError, match="rows"):
        backup(unmounted.application, later(unmounted), allow_loss=("backups",))


def test_what_an_operation_keeps_meanwhile_does_not_hide_that_the_others_are_gone(unmounted, tmp_path):
    """On the bad day a restore from a copy has to work, and what it replaces is kept wherever there is room."""
    application, ports = unmounted.application, later(unmounted)
    (unmounted.root / "databases/accounts/kalshi/demo/fills.db").unlink()
    copy = archives(tmp_path / "disk")[0]
    assert restore(application, ports, reference=str(tmp_path / "disk" / copy)).changed
    assert any("before_restore" in name for name in archives(unmounted.backups))
    assert any(GONE in note for note in unmounted.notes)
    with pytest.raises(TradekeepError, match="is not mounted"):
        backup(application, ports)


def test_an_archive_for_elsewhere_is_made_all_the_same(unmounted, tmp_path):
    made = backup(unmounted.application, later(unmounted), output=str(tmp_path / "elsewhere"))
    assert made.status == ExitStatus.DONE
    assert list(unmounted.backups.iterdir()) == []


def test_a_disk_that_is_mounted_again_is_as_it_was(unmounted, tmp_path):
    unmounted.backups.rmdir()
    (tmp_path / "disk").rename(unmounted.backups)
    assert backup(unmounted.application, later(unmounted)).status == ExitStatus.DONE
    assert len(archives(unmounted.backups)) == 2


def test_backups_that_went_to_another_directory_are_found_there(unmounted, tmp_path):
    moved = dataclasses.replace(unmounted.application, backup_dir=PurePosixPath(tmp_path / "disk"))
    assert backup(moved, later(unmounted)).status == ExitStatus.DONE


def test_neither_a_first_backup_nor_a_single_one_that_was_removed_is_a_loss(bench):
    assert "no backups yet" in list_backups(bench.application, bench.ports).lines
    first = backup(bench.application, bench.ports).record["backup"]["path"]
    backup(bench.application, later(bench))
    Path(first).unlink()
    assert list_backups(bench.application, bench.ports).status == ExitStatus.DONE
    shutil.rmtree(bench.application.state_dir)
    shutil.rmtree(bench.backups)
    assert backup(bench.application, bench.ports).status == ExitStatus.DONE
