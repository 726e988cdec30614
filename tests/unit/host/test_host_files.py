# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Files, mounts, the lock and programs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CommandError,
    LockBusyError,
    UnsafePathError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import files
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.lock import application_lock

COLLECTIONS = Path(__file__).resolve().parents[3] / ".cache" / "collections"


def test_a_symlink_on_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "planted").symlink_to("real")
    with pytest.raises(UnsafePathError, match="planted: is a symlink to real"):
        files.open_directory_beneath(tmp_path, "planted/x")


@pytest.mark.parametrize("relative", ["../x", "a/../../x", "/etc"])
def test_leaving_the_root_is_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(UnsafePathError):
        files.open_directory_beneath(tmp_path, relative)


def test_hazard_a9_a_fifo_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ended_after(seconds=5), pytest.raises(UnsafePathError, match="not a regular file"):
        files.open_file_beneath(tmp_path, "pipe")


@contextlib.contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """A failure instead of a test that never ends."""

    def late(_signal: int, _frame: object) -> None:
        raise AssertionError(f"still waiting after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("umask", [0, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.atomic_write(tmp_path / "x", b"1", mode=0o640)
        files.make_private_directory(tmp_path / "d")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o700


def test_hazard_b5_a_busy_lock_says_who_and_dies_with_its_process(tmp_path: Path) -> None:
    with (
        application_lock(tmp_path, operation="backup", clock=SystemClock()),
        pytest.raises(LockBusyError, match=rf"held by backup \(process {os.getpid()}\) since 2"),
        application_lock(tmp_path, operation="prune", clock=SystemClock()),
    ):
        pass
    with application_lock(tmp_path, operation="prune", clock=SystemClock()):
        pass


def test_programs_get_a_clean_environment_and_full_pipes_do_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    runner = SubprocessRunner()
    assert "SECRET" not in runner.run(["env"]).stdout
    loud = runner.run(["sh", "-c", "head -c 1000000 /dev/zero >&2; cat"], input_text="y" * 500_000)
    assert len(loud.stdout) == 500_000
    assert len(loud.stderr) <= 65536


def test_a_program_that_takes_too_long_is_ended_with_its_children() -> None:
    with pytest.raises(CommandError, match="did not end within"):
        SubprocessRunner().run(["sh", "-c", "sleep 1000 & sleep 1000"], timeout_seconds=0.2)


def test_hazard_c5_bind_mounts_are_parts_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data" / "lake").mkdir(parents=True)
    script = (
        f"import sys; sys.path.insert(0, {str(COLLECTIONS)!r})\n"
        "from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.mounts import device_roots\n"
        f"print([r.relative for r in device_roots({str(tmp_path / 'data')!r})])"
    )
    mount = f'mount --bind "{tmp_path}/disk" "{tmp_path}/data/lake" || exit 77; exec "$0" -c "$1"'
    done = subprocess.run(["unshare", "-m", "sh", "-c", mount, sys.executable, script], capture_output=True, text=True)
    if done.returncode in (1, 77) and os.geteuid() != 0:
        pytest.skip("needs root for a bind mount")
    assert done.stdout.strip() == "['', 'lake']", done.stderr
