# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Kill a backup at every step and system call that matters: no archive under a name that does not verify, ever."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import operations_bench as bench
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import open_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_reader import read_archive
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup

needs_strace = pytest.mark.skipif(bench.STRACE is None, reason="strace is not installed")
STEPS = 2
PASSPHRASE = "correct horse battery staple"
FAMILIES = {
    "names": {
        "rename": 9,
        "renameat": 40,
        "renameat2": 9,
        "link": 9,
        "linkat": 9,
        "symlink": 9,
        "unlink": 12,
        "unlinkat": 12,
    },
    "syncs": {"fsync": 40, "fdatasync": 12, "rmdir": 4},
    "opens": {"openat": 10, "mkdir": 4},
    "writes": {"write": 10, "pwrite64": 6},
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("template") / "base"
    writer = bench.installation(base)
    bench.add_rows(writer, 50)
    copy = bench.copy_of(base, base.with_name("copy"))
    writer.close()
    return copy


def check_and_go_on(template: Path, base: Path) -> None:
    """After a killed backup: data and earlier backups untouched; the next backup works and leaves nothing else."""
    assert bench.content(base / "data") == bench.content(template / "data")
    sidecars = [name for name in bench.names((base / "data" / bench.FILLS).parent) if "-" in name]
    assert sidecars == ["fills.db-shm", "fills.db-wal"]
    bench.check_backups(base)
    for name in bench.names(template / "backups"):
        if not name.startswith("latest"):
            assert (base / "backups" / name).read_bytes() == (template / "backups" / name).read_bytes()
    made = backup(bench.application_in(base), bench.ports(), name="third").record["backup"]
    bench.check_backups(base)
    assert bench.own_leftovers(base) == []
    assert (base / "backups" / "latest_backup.tar.gz").resolve().name == Path(made["path"]).name
    expected = {"user_data", "latest_backup.tar.gz"}
    assert {name[:9] if name.startswith("user_data") else name for name in bench.names(base / "backups")} == expected
    assert len(bench.names(base / "backups")) == 1 + 3 * len(bench.archives(base))


def test_killed_at_every_step(template: Path, tmp_path: Path) -> None:
    base = bench.copy_of(template, tmp_path / "count")
    assert bench.drive(base, "backup", step=-1).returncode == 0
    steps = (base / "steps").read_text().splitlines()

    def case(number: int) -> None:
        base = bench.copy_of(template, tmp_path / str(number))
        assert bench.was_killed(bench.drive(base, "backup", step=number, options={"name": "second"}))
        check_and_go_on(template, base)

    bench.at_once(case, range(len(steps)))
    assert len(steps) == STEPS


@needs_strace
@pytest.mark.parametrize("family", FAMILIES)
def test_hazard_b1_killed_at_every_system_call(template: Path, tmp_path: Path, family: str) -> None:
    counted = bench.copy_of(template, tmp_path / "count")
    calls = bench.calls_of(counted, "backup", most=FAMILIES[family], options={"name": "second"})

    def case(call: tuple[str, int]) -> int:
        base = bench.copy_of(template, tmp_path / f"{call[0]}-{call[1]}")
        inject = f"{call[0]}:signal=KILL:when={call[1]}"
        done = bench.drive(base, "backup", inject=inject, options={"name": "second"})
        check_and_go_on(template, base)
        return bench.was_killed(done)

    killed = bench.at_once(case, calls)
    # Ordinals may shift by a few between runs (a retry, a random name); nearly all must have hit.
    assert sum(killed) > 0.8 * len(calls)
    assert len(calls) > 4


@pytest.fixture(scope="module")
def recovery_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the secret key is, on the machine of somebody else; the public one lies in it as a file."""
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed")
    # The name of a socket of gpg's may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="tk-") as home:
        argv = ["gpg", "--batch", "--quiet", "--homedir", home, "--pinentry-mode", "loopback", "--passphrase", ""]
        subprocess.run([*argv, "--quick-gen-key", "owner", "rsa2048", "cert,encr", "never"], check=True)
        public = Path(home) / "public.asc"
        public.write_bytes(subprocess.run([*argv, "--armor", "--export"], check=True, capture_output=True).stdout)
        yield home
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


def encryption(how: str, directory: Path, recovery_home: str) -> dict[str, Any]:
    if how == "public key":
        return {"gpg_recipients": [f"{recovery_home}/public.asc"]}
    secret = directory / "passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    return {"passphrase_file": str(secret)}


def check_sealed(base: Path, settings: dict[str, Any], recovery_home: str) -> None:
    """After a killed encrypted backup the next one works, can be read with the key, and nothing else is left."""
    names = bench.names(base / "backups")
    assert [name for name in names if name.endswith(".tar.gz") and "second" in name] == []
    bench.check_backups(base, **settings)
    # Driven, too: gpg homes are looked for in the temporary directory of who looks.
    third = bench.drive(base, "backup", settings=settings, options={"name": "third", "encrypt": True})
    assert third.returncode == 0, third.stderr
    bench.check_backups(base, **settings)
    assert bench.own_leftovers(base) == []
    (made,) = [base / "backups" / name for name in bench.archives(base) if "third" in name]
    keys = {"passphrase_file": settings.get("passphrase_file"), "gnupg_home": recovery_home}
    with open_container(made, runner=SubprocessRunner(), **keys) as stream:
        assert stream.encrypted
        assert read_archive(stream).ok
    assert b"SQLite format 3" not in made.read_bytes()


@pytest.mark.parametrize("how", ["passphrase", "public key"])
def test_hazard_b1_an_encrypted_backup_killed_leaves_no_plaintext(
    template: Path, tmp_path_factory: pytest.TempPathFactory, recovery_home: str, how: str
) -> None:
    short = tmp_path_factory.mktemp("e")
    settings = encryption(how, short, recovery_home)
    for number in range(STEPS):
        base = bench.copy_of(template, short / str(number))
        wanted = {"settings": settings, "options": {"name": "second", "encrypt": True}}
        assert bench.was_killed(bench.drive(base, "backup", step=number, **wanted))
        check_sealed(base, settings, recovery_home)


@needs_strace
def test_hazard_b1_an_encrypted_backup_killed_at_a_system_call(
    template: Path, tmp_path_factory: pytest.TempPathFactory, recovery_home: str
) -> None:
    short = tmp_path_factory.mktemp("e")
    settings = encryption("public key", short, recovery_home)
    wanted = {"settings": settings, "options": {"name": "second", "encrypt": True}}
    most = {"openat": 4, "write": 4, "renameat": 4, "link": 2, "linkat": 2, "unlink": 2, "fsync": 3}
    calls = bench.calls_of(bench.copy_of(template, short / "count"), "backup", most=most, **wanted)

    def case(item: tuple[int, tuple[str, int]]) -> int:
        number, (call, when) = item
        base = bench.copy_of(template, short / str(number))
        done = bench.drive(base, "backup", inject=f"{call}:signal=KILL:when={when}", **wanted)
        check_sealed(base, settings, recovery_home)
        return done.returncode

    statuses = bench.at_once(case, enumerate(calls))
    assert len(calls) > 8
    # Now and then it is gpg that is killed: then the backup fails by itself.
    assert sum(status != 0 for status in statuses) > 0.7 * len(calls)
