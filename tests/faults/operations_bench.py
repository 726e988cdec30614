# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A small installation to break: how it is made, driven, traced, and looked at without touching it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog
from operations_driver import application_in

DRIVER = Path(__file__).with_name("operations_driver.py")
STRACE = shutil.which("strace")
FILLS = "databases/accounts/kalshi/demo/fills.db"
MODE = "state/account_mode.json"
Content = dict[str, Any]


def ports() -> Ports:
    return Ports(SubprocessRunner(), SystemClock(), NoProgress())


def installation(base: Path, *, rows: int = 400, name: str | None = "first") -> sqlite3.Connection:
    """A tree with a database in WAL mode, and one backup of it. The open connection keeps the WAL alive."""
    (base / "tmp").mkdir(parents=True)
    application = application_in(base)
    tree(application, ports(), fix=True)
    writer = sqlite3.connect(base / "data" / FILLS)
    (base / "data" / FILLS).chmod(0o600)
    writer.execute("pragma journal_mode=wal")
    writer.execute("create table fills(id integer primary key, trade_id text not null)")
    add_rows(writer, rows)
    (base / "data/preferences/own.json").write_text('{"kept": true}')
    if name is not None:
        backup(application, ports(), name=name)
    return writer


def add_rows(writer: sqlite3.Connection, rows: int) -> None:
    writer.executemany("insert into fills(trade_id) values (?)", [(f"trade {n}",) for n in range(rows)])
    writer.commit()


def changed_since(base: Path, writer: sqlite3.Connection) -> None:
    """What happens to data after a backup: more rows, a broken document, one gone and one more."""
    add_rows(writer, 7)
    (base / "data" / MODE).write_text("{broken")
    (base / "data/preferences/own.json").unlink()
    (base / "data/preferences/later.json").write_text('{"later": 1}')


def copy_of(template: Path, base: Path) -> Path:
    shutil.copytree(template, base, symlinks=True)
    for path in template.rglob("*"):
        os.utime(base / path.relative_to(template), ns=(0, path.lstat().st_mtime_ns), follow_symlinks=False)
    return base


def drive(
    base: Path, operation: str, *, inject: str = "", trace: Path | None = None, driver: Path = DRIVER, **wanted: Any
) -> subprocess.CompletedProcess[str]:
    tracer = []
    if inject:
        # No filter here: with one, calls are counted otherwise than in an unfiltered run.
        tracer = [str(STRACE), "-f", "-qq", "-o", "/dev/null", "-e", f"inject={inject}"]
    if trace is not None:
        tracer = [str(STRACE), "-f", "--seccomp-bpf", "-qq", "-y", "-o", str(trace), "-e", "trace=" + ",".join(CALLS)]
    # Unbuffered: where no write succeeds, what Python still had to write at its end would make the status 120.
    return subprocess.run(
        [*tracer, sys.executable, "-B", "-u", "-S", str(driver), str(base), operation, json.dumps(wanted)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def was_killed(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)


def was_hit(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether it was killed, or a process that it had read a database in: then it says so and goes on or gives up."""
    return was_killed(done) or "ended early" in done.stderr


# System calls to be killed in

ALWAYS = ("rename", "renameat", "renameat2", "link", "linkat", "symlink", "unlink", "unlinkat", "fsync", "fdatasync")
SAMPLED = ("openat", "write", "pwrite64", "mkdir", "ftruncate", "chmod", "fchmod")
CALLS = (*ALWAYS, *SAMPLED, "syncfs", "rmdir")


def calls_of(base: Path, operation: str, *, most: dict[str, int], **wanted: Any) -> list[tuple[str, int]]:
    """The system calls of an undisturbed run that concern its files, as (name, ordinal); sampled where there are many.

    most: how many of each call are wanted at most; those not named are not wanted.
    """
    trace = base.parent / f"{base.name}.trace"
    done = drive(base, operation, trace=trace, **wanted)
    assert done.returncode == 0, done.stderr
    text = trace.read_text(errors="replace").splitlines()
    main = text[0].split()[0]
    counts: dict[str, int] = {}
    chosen: dict[str, list[int]] = {}
    for line in text:
        found = re.match(r"(\d+) +(\w+)\(", line)
        if found is None or found[1] != main:
            continue
        counts[found[2]] = counts.get(found[2], 0) + 1
        if str(base) in line:
            chosen.setdefault(found[2], []).append(counts[found[2]])
    return [(name, n) for name, limit in most.items() for n in spread(chosen.get(name, []), limit)]


def spread(items: list[Any], most: int) -> list[Any]:
    """At most so many of the items, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(n * (len(items) - 1) / (most - 1))] for n in range(most)]


def at_once(function: Callable[[Any], Any], cases: Iterable[Any]) -> list[Any]:
    """Most of the time is spent in processes: a few at a time, each case in one that has no thread beside it."""
    with ThreadPoolExecutor(max_workers=3) as pool:
        return list(pool.map(lambda case: _in_a_process(function, case), cases))


def _in_a_process(function: Callable[[Any], Any], case: Any) -> Any:
    """The result of a call, or its failure as one of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                said = pickle.dumps((function(case), None))
            except BaseException:
                said = pickle.dumps((None, traceback.format_exc()))
            with os.fdopen(writing, "wb") as stream:
                stream.write(said)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        result, failure = pickle.loads(stream.read())
    os.waitpid(child, 0)
    assert failure is None, failure
    return result


# Looking, without touching


def content(root: Path) -> Content:
    """Every file and link below a root: mode and digest, or all rows of a database with its WAL."""
    found: Content = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file() and not name.endswith(("-wal", "-shm")):
            mode = path.stat().st_mode & 0o7777
            held = hashlib.sha256(path.read_bytes()).hexdigest()
            if path.suffix == ".db":
                with contextlib.suppress(sqlite3.DatabaseError):  # a damaged one is compared byte by byte
                    held = rows_of(path)
            found[name] = (oct(mode), held)
    return found


def rows_of(database: Path) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy.db"
        for suffix in ("", "-wal"):
            if Path(f"{database}{suffix}").exists():
                shutil.copy(f"{database}{suffix}", f"{copy}{suffix}")
        connection = sqlite3.connect(copy)
        try:
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
            tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
            return {table: connection.execute(f'select * from "{table}" order by 1').fetchall() for table in tables}
        finally:
            connection.close()


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.exists() else []


def own_leftovers(base: Path) -> list[str]:
    """Whatever an operation must not leave: its temporary names, anywhere, and anything in the temporary directory."""
    found = list(base.rglob(".tradekeep*"))
    found += [path for path in (base / "tmp").iterdir() if not _is_probe(path)]
    found += [path for path in (base / "state").rglob("*") if path.name.startswith(("stage-", "transaction"))]
    return [str(path) for path in found]


def _is_probe(path: Path) -> bool:
    """Python's tempfile tries its directory out with a file like this."""
    return path.is_file() and path.read_bytes() in (b"", b"blat")


def archives(base: Path) -> list[str]:
    return [name for name in names(base / "backups") if re.search(r"^user_data.*\.tar\.(gz|zst)(\.gpg)?$", name)]


def check_backups(base: Path, **settings: Any) -> None:
    """Every archive that has a name is whole, its checksum file agrees, and ``latest`` leads to a good one."""
    application = application_in(base, **settings)
    for name in archives(base):
        path = base / "backups" / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert (base / "backups" / f"{name}.sha256").read_text() == f"{digest}  {name}\n"
        assert path.stat().st_mode & 0o777 == 0o600
        assert verify(application, ports(), reference=name).status == 0
    links = [path for path in (base / "backups").iterdir() if path.is_symlink() and path.name.startswith("latest")]
    for link in links:
        assert link.resolve().name in archives(base), link
    if archives(base):
        assert LocalCatalog(application, SystemClock()).find("latest").good
