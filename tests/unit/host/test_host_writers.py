# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which processes write into a directory: by what they have open, whatever they and it are called."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import writers
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.worker import run_worker
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.writers import writers_in
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress

OPENS = "f = open({path!r}, {mode!r})"
MAPS = """
import mmap, os
with open({path!r}, "r+b") as f:
    kept = mmap.mmap(f.fileno(), 0, access=mmap.{access})
os.closerange(3, 100)  # the object keeps a descriptor of its own
"""
WAITS = "\nimport sys; print(1, flush=True); sys.stdin.read()"


@contextlib.contextmanager
def process(script: str, *before: str) -> Iterator[int]:
    """A process that has done what the script says, and stays."""
    argv = [*before, sys.executable, "-c", script + WAITS]
    bot = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert bot.stdout is not None
    try:
        assert bot.stdout.readline() == b"1\n"
        yield bot.pid
    finally:
        bot.communicate()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub/fills.db").write_bytes(b"x" * 8192)
    return directory


@pytest.mark.parametrize(
    ("script", "how"),
    [
        (OPENS.format(path="{path}", mode="a"), "writes"),
        (OPENS.format(path="{path}", mode="r+"), "writes"),
        (OPENS.format(path="{path}", mode="a") + "; import os; os.unlink('{path}')", "writes"),
        (MAPS.format(path="{path}", access="ACCESS_WRITE"), "shares as memory"),
        (OPENS.format(path="{path}", mode="r"), None),
        (MAPS.format(path="{path}", access="ACCESS_COPY"), None),
    ],
)
def test_what_is_open_for_writing_or_shared_counts(data: Path, script: str, how: str | None) -> None:
    path = data / "sub/fills.db"
    with process(script.replace("{path}", str(path))) as pid:
        found = writers_in(data)
        assert writers_in(data.parent / "elsewhere") == ()
        assert writers_in(data, spared=[pid]) == ()
    assert [(item.pid, str(item).removesuffix(" (deleted)")) for item in found] == (
        [] if how is None else [(pid, f"{found[0].program} (process {pid}) {how} {path}")]
    )
    assert writers_in(data) == ()


def test_this_process_and_its_workers_do_not_count(data: Path) -> None:
    with (data / "own").open("w"):
        assert writers_in(data) == ()

        def work(_outlet: object, news: int) -> list[int]:
            with (data / "workers").open("w"):
                os.write(ready, b"1")
                os.read(news, 1)
                return []

        looked = []
        arrived, ready = os.pipe()

        def feed(_give: object) -> None:
            os.read(arrived, 1)
            looked.append(writers_in(data))

        run_worker(work, account=None, progress=NoProgress(), feed=feed, keep=(ready,))
        assert looked == [()]


def test_a_name_that_pretends_is_none(data: Path, tmp_path: Path) -> None:
    """A process calls itself what it likes; a directory beside the data can begin with its name."""
    script = "import ctypes; ctypes.CDLL(None).prctl(15, b'tradekeep) 1 1'); " + OPENS
    with process(script.format(path=str(data / "sub/fills.db"), mode="a")) as pid:
        assert [item.pid for item in writers_in(data)] == [pid]
    (tmp_path / "data2").mkdir()
    with process(OPENS.format(path=str(tmp_path / "data2/x"), mode="a")):
        assert writers_in(data) == ()


def test_a_file_with_another_name_is_found_by_its_inode(data: Path, tmp_path: Path) -> None:
    os.link(data / "sub/fills.db", tmp_path / "other")
    (tmp_path / "link").symlink_to(data)
    with process(OPENS.format(path=str(tmp_path / "other"), mode="a")) as pid:
        assert [(item.pid, item.path) for item in writers_in(tmp_path / "link")] == [(pid, str(data / "sub/fills.db"))]


@pytest.mark.root
@pytest.mark.parametrize("changed", ["mount --bind {data} {other}", "mount -t tmpfs none /mnt; chroot"])
def test_a_file_of_a_container_is_found_where_it_lies(data: Path, tmp_path: Path, changed: str) -> None:
    """In a mount namespace of its own the data has another path, and so it has in a chroot."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare(1) is not installed")
    other = tmp_path / "other"
    other.mkdir()
    (other / "sub").mkdir()
    (other / "sub/stranger").touch()
    if "chroot" in changed:
        script = f"import os; os.chroot({str(data)!r}); os.chdir('/'); f = open('/sub/fills.db', 'a')"
        before: tuple[str, ...] = ()
    else:
        script = OPENS.format(path=str(other / "sub/fills.db"), mode="a")
        mount = changed.format(data=data, other=other)
        before = ("unshare", "--mount", "--propagation=private", "sh", "-c", f'{mount} && exec "$@"', "sh")
    with process(script, *before) as pid:
        assert [(item.pid, item.path) for item in writers_in(data)] == [(pid, str(data / "sub/fills.db"))]
        # What this host has at the place that the container calls it is another file.
        assert "chroot" in changed or writers_in(other) == ()


@pytest.mark.root
def test_the_same_path_in_a_container_can_be_another_file(data: Path, tmp_path: Path) -> None:
    (tmp_path / "volume/sub").mkdir(parents=True)
    mount = f'mount --bind {tmp_path / "volume"} {data} && exec "$@"'
    script = OPENS.format(path=str(data / "sub/fills.db"), mode="a")
    maps = script + "; f.write('x'); f.flush()" + MAPS.format(path=str(data / "sub/fills.db"), access="ACCESS_WRITE")
    with process(maps, "unshare", "--mount", "--propagation=private", "sh", "-c", mount, "sh"):
        assert writers_in(data) == ()


def test_the_directory_is_walked_for_nothing_else(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 100,000 files beneath it, that is what takes long; and the bot is down meanwhile."""
    walked: list[object] = []
    monkeypatch.setattr(writers, "_found_beneath", lambda *arguments: walked.append(arguments) or {})
    with process(OPENS.format(path=str(data.parent / "beside"), mode="a")):
        monkeypatch.setattr(writers, "_namespace_of", lambda _pid: "mine")
        ours = {str(os.getpid())} | {name for name in os.listdir("/proc") if name.isdigit() and _is_ours(name)}
        monkeypatch.setattr(writers.os, "listdir", _only(ours))
        assert writers_in(data) == ()
    assert walked == []


def _is_ours(name: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid())
    return False


def _only(names: set[str]):  # type: ignore[no-untyped-def]
    real = os.listdir
    return lambda path=".": sorted(names) if str(path) == "/proc" else real(path)
