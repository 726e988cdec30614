# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What people and machines do wrong: two runs at once, lost or damaged databases, bad directories, bad keys."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import operations_bench as bench
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CaptureError,
    CheckError,
    ConfigurationError,
    EncryptionError,
    LockBusyError,
    TradekeepError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.lock import application_lock

needs_gpg = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("b") / "b"
    writer = bench.installation(base)
    yield base
    writer.close()


def refused(base: Path, error: type[TradekeepError], match: str | None, **options: Any) -> TradekeepError:
    """A backup fails with this error and leaves data, backups and directories as they were."""
    settings = options.pop("settings", {})
    before, backups = bench.content(base / "data"), bench.names(base / "backups")
    with pytest.raises(error, match=match) as caught:
        backup(bench.application_in(base, **settings), options.pop("ports", bench.ports()), **options)
    assert "\n" not in str(caught.value)
    assert bench.content(base / "data") == before
    assert bench.names(base / "backups") == backups
    assert bench.own_leftovers(base) == []
    return caught.value


def break_database(path: Path, content: bytes | None) -> None:
    """Put other content in the place of a database that nobody has open any more."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)


# Two runs at once


class HurriedClock(SystemClock):
    """Ten minutes of waiting are over at once."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        self.ahead += 1000


class Notes(NoProgress):
    def __init__(self) -> None:
        self.noted = threading.Event()
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)
        self.noted.set()


def test_a_second_run_says_who_holds_the_lock_and_since_when(base: Path) -> None:
    state = base / "state" / "kalshi"
    with application_lock(state, operation="restore", clock=SystemClock()):
        ports = Ports(SubprocessRunner(), HurriedClock(), NoProgress())
        error = refused(base, LockBusyError, "held by restore", ports=ports)
    assert f"process {os.getpid()}" in str(error)
    assert " since 20" in str(error)
    assert int(error.exit_status) == 3


def test_a_second_run_waits_and_then_works(base: Path) -> None:
    notes, done = Notes(), []
    ports = Ports(SubprocessRunner(), SystemClock(), notes)
    with application_lock(base / "state" / "kalshi", operation="prune", clock=SystemClock()):
        second = threading.Thread(
            target=lambda: done.append(backup(bench.application_in(base), ports, name="waited")), daemon=True
        )
        second.start()
        assert notes.noted.wait(30)
        assert done == []
    second.join(60)
    assert notes.texts[0].startswith("waiting for prune (process ")
    assert len(done) == 1


def test_hazard_b5_a_lock_file_of_a_dead_process_holds_nobody_up(base: Path) -> None:
    lock = base / "state" / "kalshi" / "lock"
    lock.write_text(json.dumps({"pid": 1, "operation": "backup", "since": "2020-01-01T00:00:00+00:00"}))
    assert backup(bench.application_in(base), bench.ports(), name="second").changed


# Databases


def test_hazard_a3_a_database_that_the_last_backup_held_and_that_is_gone(base: Path) -> None:
    break_database(base / "data" / bench.FILLS, None)
    error = refused(base, CaptureError, "missing")
    assert (int(error.exit_status), error.path) == (3, str(base / "data" / bench.FILLS))


def test_hazard_a3_a_fresh_tree_has_no_databases_yet(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    application = bench.application_in(tmp_path)
    tree(application, bench.ports(), fix=True)
    done = backup(application, bench.ports())
    assert bench.FILLS in done.record["missing"]
    assert any(f"not there yet: {bench.FILLS}" in line for line in done.lines)
    # It may come later, and stay away as long as no backup held it; that is said once.
    again = backup(application, bench.ports())
    assert again.changed and bench.FILLS in again.record["missing"]
    assert not any("not there yet" in line for line in again.lines)


def test_hazard_a3_an_empty_database(base: Path) -> None:
    break_database(base / "data" / bench.FILLS, b"")
    assert int(refused(base, CaptureError, "0 bytes").exit_status) == 3


def test_hazard_a3_collapsed_rows_need_a_word(base: Path) -> None:
    with sqlite3.connect(base / "data" / bench.FILLS) as connection:
        connection.execute("delete from fills where id > 100")
    connection.close()
    error = refused(base, CaptureError, "had 400 rows in .* and has 100 now")
    assert "--allow-loss databases" in str(error)
    assert backup(bench.application_in(base), bench.ports(), name="second", allow_row_loss=True).changed
    # From then on the smaller number is the one to compare with.
    assert backup(bench.application_in(base), bench.ports(), name="third").changed


def test_hazard_a3_a_dropped_table_is_a_collapse(base: Path) -> None:
    with sqlite3.connect(base / "data" / bench.FILLS) as connection:
        connection.execute("drop table fills")
        connection.execute("create table other(x)")
    connection.close()
    refused(base, CaptureError, "has 0 now")


@pytest.mark.parametrize(
    "content",
    [b"garbage " * 1000, b"SQLite format 3\0" + b"\xff" * 8000, os.urandom(16384)],
    ids=["text", "header only", "encrypted"],
)
def test_hazard_a4_a_database_that_is_none(base: Path, content: bytes) -> None:
    break_database(base / "data" / bench.FILLS, content)
    error = refused(base, TradekeepError, None)
    assert isinstance(error, (CaptureError, CheckError))
    assert error.path == str(base / "data" / bench.FILLS)


def test_a_database_with_a_damaged_page(base: Path) -> None:
    path = base / "data" / bench.FILLS
    with sqlite3.connect(path) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xa5" * 4096)
    error = refused(base, TradekeepError, None)
    assert isinstance(error, (CaptureError, CheckError))


# Directories


@pytest.mark.root
def test_a_backup_directory_that_cannot_be_written(base: Path) -> None:
    """As another account, whose rights a child process takes on after everything is imported."""
    (base / "backups").chmod(0o755)
    for above in base.parents:
        if above.stat().st_mode & 0o001 == 0:
            above.chmod(above.stat().st_mode | 0o011)
    for path in (base, *(top for part in ("data", "state") for top in (base / part, *(base / part).rglob("*")))):
        os.lchown(path, 12345, 12345)
    before, backups = bench.content(base / "data"), bench.names(base / "backups")
    assert as_account(12345, lambda: backup(bench.application_in(base), bench.ports())) == (
        "ConfigurationError",
        "the backup directory is not writable",
    )
    assert bench.content(base / "data") == before
    assert bench.names(base / "backups") == backups
    assert bench.own_leftovers(base) == []


def as_account(uid: int, function: Callable[[], object]) -> tuple[str, str]:
    """Class and message of the error that a function ends with in a process of another account."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            function()
            answer = ("", "done")
        except BaseException as error:
            answer = (type(error).__name__, getattr(error, "message", str(error)))
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = json.loads(stream.read())
    os.waitpid(child, 0)
    return answer[0], answer[1]


def test_hazard_b6_a_backup_directory_inside_the_data(base: Path) -> None:
    inside = base / "data" / "databases" / "backups"
    with pytest.raises(ConfigurationError, match="inside"):
        backup(bench.application_in(base, backup_dir=str(inside)), bench.ports())
    refused(base, ConfigurationError, "inside the data", output=str(inside))
    (base / "detour").symlink_to(base / "data" / "databases")
    refused(base, ConfigurationError, "inside the data", output=str(base / "detour" / "x"))
    assert not inside.exists()


def test_a_backup_directory_that_others_can_write(base: Path) -> None:
    (base / "backups").chmod(0o777)
    refused(base, TradekeepError, "everybody can write there")


def test_a_file_in_the_place_of_the_backup_directory(base: Path) -> None:
    (base / "a file").write_text("x")
    refused(base, ConfigurationError, "not a directory", output=str(base / "a file" / "backups"))


def test_a_data_directory_that_is_a_symlink(base: Path) -> None:
    (base / "data").rename(base / "elsewhere")
    (base / "data").symlink_to(base / "elsewhere")
    before = bench.content(base / "elsewhere")
    for operation in (backup, restore):
        with pytest.raises(ConfigurationError, match="symlink"):
            operation(bench.application_in(base), bench.ports())
    assert bench.content(base / "elsewhere") == before
    assert bench.own_leftovers(base) == []


def test_a_data_directory_that_is_not_there(base: Path) -> None:
    (base / "data").rename(base / "elsewhere")
    with pytest.raises(TradekeepError):
        backup(bench.application_in(base), bench.ports())
    assert len(bench.archives(base)) == 1
    assert bench.own_leftovers(base) == []


def test_a_second_backup_of_the_same_name_replaces_nothing(base: Path) -> None:
    first = bench.archives(base)
    backup(bench.application_in(base), bench.ports(), name="first")
    assert set(first) < set(bench.archives(base))
    with pytest.raises(UsageError, match="stands for 2 backups"):
        restore(bench.application_in(base), bench.ports(), reference="first")


# Keys


class WithoutGpg(SubprocessRunner):
    def find(self, program: str) -> str | None:
        return None if "gpg" in program else super().find(program)


def passphrase_file(base: Path, text: str = "open sesame") -> str:
    path = base.parent / f"passphrase-{text.replace(' ', '-')}"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


def test_hazard_b1_no_gpg_means_no_backup_and_no_plaintext(base: Path) -> None:
    ports = Ports(WithoutGpg(), SystemClock(), NoProgress())
    settings = {"passphrase_file": passphrase_file(base)}
    refused(base, EncryptionError, "gpg is not installed", settings=settings, encrypt=True, ports=ports)


def test_encryption_that_nothing_is_configured_for(base: Path) -> None:
    refused(base, ConfigurationError, "nothing to encrypt with", encrypt=True)


@needs_gpg
def test_a_recipient_that_nobody_knows(base: Path) -> None:
    settings = {"gpg_recipients": ["0123456789ABCDEF0123456789ABCDEF01234567"]}
    refused(base, EncryptionError, None, settings=settings, encrypt=True)


def test_a_passphrase_file_that_others_can_read_or_that_is_missing(base: Path) -> None:
    path = passphrase_file(base)
    os.chmod(path, 0o644)
    refused(base, TradekeepError, None, settings={"passphrase_file": path}, encrypt=True)
    os.unlink(path)
    refused(base, TradekeepError, None, settings={"passphrase_file": path}, encrypt=True)


@needs_gpg
def test_a_wrong_passphrase_changes_nothing(base: Path) -> None:
    right = bench.application_in(base, passphrase_file=passphrase_file(base))
    wrong = passphrase_file(base, "close sesame")
    backup(right, bench.ports(), name="sealed", encrypt=True)
    (base / "data" / bench.MODE).write_text('{"mode": "prod"}')
    before, backups = bench.content(base / "data"), bench.names(base / "backups")
    for to in (None, str(base / "out")):
        with pytest.raises(EncryptionError):
            restore(right, bench.ports(), reference="sealed", passphrase_file=wrong, to=to)
        assert bench.content(base / "data") == before
    assert bench.names(base / "backups") == backups
    assert bench.own_leftovers(base) == []
    assert not (base / "out").exists() or bench.names(base / "out") == []
    restore(right, bench.ports(), reference="sealed")
    assert json.loads((base / "data" / bench.MODE).read_text()) == {"mode": "demo"}
    # What it replaced is as secret as what it came from.
    assert all(name.endswith(".gpg") for name in bench.archives(base) if "before_restore" in name)
    assert stat.S_IMODE((base / "backups").stat().st_mode) == 0o700
