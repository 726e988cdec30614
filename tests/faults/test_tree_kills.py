# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Kill the installation of a credential anywhere: it is old or new, whole, and nobody else ever reads it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import operations_bench as bench
from operations_driver import install_credential

needs_strace = pytest.mark.skipif(bench.STRACE is None, reason="strace is not installed")
KEY = "credentials/kalshi/prod/2026/api.pem"
OLD, NEW = "old secret " * 4000, "new secret " * 4000
MOST = {"openat": 10, "write": 10, "fchmod": 8, "fsync": 10, "renameat": 6, "mkdir": 6, "unlinkat": 4}


def secrets_in(base: Path) -> Iterator[Path]:
    """Every file, under whatever name, that holds a part of a secret."""
    for path in base.rglob("*"):
        if path.is_file() and b"secret" in path.read_bytes():
            yield path


@needs_strace
@pytest.mark.parametrize("before", [None, OLD], ids=["first", "replaced"])
def test_hazard_b1_a_credential_is_old_or_new_and_never_readable_by_others(tmp_path: Path, before: str | None) -> None:
    template = tmp_path / "template"
    bench.installation(template, name=None).close()
    application = bench.application_in(template)
    if before is not None:
        install_credential(application, bench.ports(), path=KEY, content=before)
    wanted = {"options": {"path": KEY, "content": NEW}}
    calls = bench.calls_of(bench.copy_of(template, tmp_path / "count"), "tree", most=MOST, **wanted)

    def case(call: tuple[str, int]) -> tuple[bool, bool]:
        base = bench.copy_of(template, tmp_path / f"{call[0]}-{call[1]}")
        done = bench.drive(base, "tree", inject=f"{call[0]}:signal=KILL:when={call[1]}", **wanted)
        key = base / "data" / KEY
        found = key.read_text() if key.exists() else None
        assert found in (before, NEW)
        for path in secrets_in(base):
            assert path.stat().st_mode & 0o077 == 0, path
        again = bench.drive(base, "tree", **wanted)
        assert again.returncode == 0, again.stderr
        assert key.read_text() == NEW
        kept = [path.read_text() for path in secrets_in(base) if path != key]
        assert set(kept) == ({before} if before else set())
        assert bench.own_leftovers(base) == []
        return bench.was_killed(done), found == NEW

    outcomes = bench.at_once(case, calls)
    killed = [new for hit, new in outcomes if hit]
    assert len(killed) > 0.8 * len(calls) and len(calls) > 10
    assert set(killed) == {False, True}
