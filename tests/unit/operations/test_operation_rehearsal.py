# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`config check` finds beforehand what a timer fails for at night."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ExitStatus,
    TradekeepError,
    UnsafePathError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import fstab, mounts
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.unit_files import render_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.unit_sight import sandbox_root
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed


@pytest.fixture
def ready(make_bench):
    """A bench for which everything is there."""

    def make(profile=None, **options):
        daily = [{"tier": "daily", "calendar": "*-*-* 02:00:00"}]
        mine = {
            "name": "mine",
            "schedules": daily,
            "retention": {"daily": 7},
            "components": {"data": {"paths": ["data"]}},
        }
        bench = make_bench(profile={**mine, **(profile or {})}, **options)
        bench.make_tree()
        bench.backups.mkdir(mode=0o700, exist_ok=True)
        return bench

    return make


def found(bench, ports=None):
    outcome = check_configuration(bench.application, ports or bench.ports)
    assert (outcome.status is ExitStatus.DONE) == (not outcome.record["problems"] and not outcome.record["warnings"])
    return outcome.record["problems"], outcome.record["warnings"]


def test_all_is_well(ready):
    assert found(ready()) == ([], [])


def test_a_compressor_that_is_not_installed_is_found(ready, tmp_path):
    bench = ready({"compression": "zstd"})
    bare = dataclasses.replace(bench.ports, runner=SubprocessRunner(search_path=str(tmp_path)))
    ((problem,), _warnings) = found(bench, bare)
    assert "zstd: is not installed" in problem and "install zstd" in problem
    with pytest.raises(TradekeepError, match="is not installed"):
        backup(bench.application, bare)


def test_schedules_without_retention_are_warned_of(ready):
    problems, (warning,) = found(ready({"retention": {}}))
    assert problems == [] and "no backup is ever removed" in warning and "daily: 7" in warning
    assert found(ready({"retention": {}, "schedules": []})) == ([], [])


@pytest.fixture
def host(monkeypatch, tmp_path):
    """What this host says that it mounts, and what is mounted."""
    table, mounted, units = tmp_path / "fstab", tmp_path / "mountinfo", tmp_path / "systemd"
    units.mkdir()
    monkeypatch.setattr(fstab, "_FSTAB", table)
    monkeypatch.setattr(fstab, "_MOUNT_UNITS", units)
    monkeypatch.setattr(mounts, "_MOUNTINFO", mounted)

    def say(wanted=(), present=(), unit=None):
        table.write_text("# a comment\n/dev/sda1 / ext4 defaults 0 1\nnone none swap sw 0 0\n" + "".join(wanted))
        lines = [f"{number} 1 8:1 / {point} rw - ext4 /dev/sda1 rw\n" for number, point in enumerate(["/", *present])]
        mounted.write_text("".join(lines))
        if unit is not None:
            (units / "x.mount").write_text(f"[Mount]\nWhat=server:/x\nWhere={unit}\n")

    return say


@pytest.mark.parametrize("by", ["fstab", "unit"])
def test_a_mount_that_is_not_there_is_found_and_nothing_is_written_below_it(ready, host, tmp_path, by):
    disk = str(tmp_path / "my disk").replace(" ", "\\040")
    (tmp_path / "my disk").mkdir()
    bench = ready(backup_dir=str(tmp_path / "my disk/backups"))
    line = [f"server:/x {disk} nfs nofail 0 0\n"] if by == "fstab" else []
    unit = str(tmp_path / "my disk") if by == "unit" else None
    host(line, [disk], unit)
    assert found(bench) == ([], [])
    host(line, [], unit)
    ((problem,), _warnings) = found(bench)
    assert f"{bench.backups}: lies on {tmp_path}/my disk" in problem and "mount " in problem
    bench.backups.rmdir()
    for write in (
        lambda: backup(bench.application, bench.ports),
        lambda: install_configuration(bench.application),
        lambda: install_configuration(bench.application, dry_run=True),
    ):
        with pytest.raises(UnsafePathError, match="is not mounted"):
            write()
    assert list((tmp_path / "my disk").iterdir()) == []
    assert len(found(bench)[0]) == 1


def test_no_tree_is_made_below_a_mount_that_is_not_there(make_bench, host):
    bench = make_bench()
    host([f"/dev/sdb1 {bench.root.parent} ext4 defaults 0 2\n"], [])
    for fix in (False, True):
        with pytest.raises(UnsafePathError, match="is not mounted"):
            tree(bench.application, bench.ports, fix=fix)
    assert not bench.root.exists()


class Systemd(SubprocessRunner):
    """Says of each timer what a test wants."""

    def __init__(self, **state):
        super().__init__()
        self._state = state

    def find(self, program):
        return "/usr/bin/" + program

    def run(self, argv, **options):
        if argv[0] != "systemctl":
            return super().run(argv, **options)
        facts = "\n".join(f"{key}={value}" for key, value in self._state.items())
        return Completed(tuple(argv), 0, "\n\n".join(f"Id={name}\n{facts}" for name in argv[3:]) + "\n", "")


def test_timers_that_are_not_there_or_do_not_run_are_found(ready, tmp_path):
    bench = ready({"drill": {"enabled": False}})
    # All rights stay those of whoever runs the tests.
    account = {"owner": "root", "group": "root"} if os.geteuid() == 0 else {}
    if not account:
        pytest.skip("needs root, to whom the data belongs here")
    bench.application = dataclasses.replace(bench.application, system=True, **account)
    timers = [name for name in render_units(bench.application) if name.endswith(".timer")]
    assert len(timers) == 2

    def asked(**state):
        (problems, _warnings) = found(bench, dataclasses.replace(bench.ports, runner=Systemd(**state)))
        return [problem for problem in problems if "tradekeep-" in problem or ".sandbox" in problem]

    missing = asked(LoadState="not-found", ActiveState="inactive")
    assert len(missing) == 2 and all("is not installed" in problem and "site" in problem for problem in missing)
    Path(sandbox_root(bench.application)).mkdir(parents=True)
    idle = asked(LoadState="loaded", ActiveState="inactive")
    assert len(idle) == 2 and f"systemctl enable --now {timers[0]}" in idle[0]
    assert asked(LoadState="masked", ActiveState="inactive") == []
    assert asked(LoadState="loaded", ActiveState="active") == []
    Path(sandbox_root(bench.application)).rmdir()
    (gone,) = asked(LoadState="loaded", ActiveState="active")
    assert "is gone" in gone


@pytest.mark.skipif(os.geteuid() != 0, reason="another account is needed")
def test_data_that_its_owner_cannot_read_is_found(ready, tmp_path):
    bench = ready({"drill": {"enabled": False}})
    bench.application = dataclasses.replace(bench.application, system=True, owner="nobody", group="nogroup")
    bench.root.chmod(0o700)
    problems, _warnings = found(bench, dataclasses.replace(bench.ports, runner=Systemd(LoadState="masked")))
    assert [problem for problem in problems if "the account nobody cannot read the data" in problem]


def test_a_drills_scratch_and_key_are_looked_at(ready, tmp_path):
    inside = ready({"drill": {"scratch": "/x"}})
    profile = inside.application.profile
    drill = dataclasses.replace(profile.drill, scratch=str(inside.root / "data"))
    inside.application = dataclasses.replace(inside.application, profile=dataclasses.replace(profile, drill=drill))
    ((problem,), _warnings) = found(inside)
    assert "lies inside the live data" in problem


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
def test_a_key_that_nothing_can_be_encrypted_to_is_found(ready, tmp_path):
    """A file is there; every backup fails all the same."""
    key = tmp_path / "operator.asc"
    key.write_text("no key\n")
    bench = ready(gpg_recipients=[str(key)])
    ((problem,), _warnings) = found(bench)
    assert "recipient's key cannot be imported" in problem
