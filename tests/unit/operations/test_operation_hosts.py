# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One backup directory for several hosts: each sees, compares with, and removes what it has made itself."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Retention
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus, UsageError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.scratch import scratch_directory
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.claims import unclaimed_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.release import release
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.parts import scratch_purpose

HOURS = iter(range(1, 1000))


class Later(SystemClock):
    """Later than at any time before."""

    def __init__(self):
        self.ahead = timedelta(hours=next(HOURS) - 1000)

    def now(self):
        return super().now() + self.ahead


class Host:
    """One of the hosts that share the directory."""

    def __init__(self, bench, name, monkeypatch):
        self.bench, self.name, self._patch = bench, name, monkeypatch
        profile = dataclasses.replace(bench.application.profile, retention=Retention(keep_last=1))
        self.application = dataclasses.replace(bench.application, profile=profile)

    def run(self, operation, *, of=None, **options):
        self._patch.setattr(socket, "gethostname", lambda: self.name)
        application = dataclasses.replace(self.application, backups_of=of)
        return operation(application, dataclasses.replace(self.bench.ports, clock=Later()), **options)

    def backup(self, **options):
        return self.run(backup, **options).record["backup"]["name"]

    def listed(self, of=None):
        return [item["name"] for item in self.run(list_backups, of=of).record["backups"]]

    def catalog(self):
        return self.run(lambda application, ports: LocalCatalog(application, ports.clock))


@pytest.fixture
def host(any_bench, tmp_path, monkeypatch):
    """Makes a host. The same number of installation comes with the same directory of it."""

    def make(directory, name=None, rows=100):
        bench = any_bench(tmp_path / directory, backup_dir=str(tmp_path / "share"))
        fresh = not bench.root.exists()
        bench.make_tree()
        if fresh:
            bench.database(rows=rows).close()
        return Host(bench, name or directory, monkeypatch)

    return make


@pytest.mark.parametrize("names", [("alpha", "beta"), ("debian", "debian")])
def test_hazard_b4_prune_leaves_what_another_host_has_made(host, names):
    """Clones of one image have one name: their installations tell them apart."""
    alpha, beta = host("a", names[0]), host("b", names[1], rows=40)
    of_alpha = alpha.backup()
    # Forty rows after a hundred are no loss: those were never here.
    of_beta = [beta.backup(allow_loss=("all",) if names[0] == names[1] else ()), beta.backup()]
    assert beta.run(prune, dry_run=False).record["removed"] == of_beta[:1]
    assert alpha.listed() == [of_alpha]
    assert beta.listed() == of_beta[1:]
    assert alpha.run(prune, dry_run=False).record["removed"] == []
    facts = {path.name: json.loads(path.read_text()) for path in beta.bench.backups.glob("*.json")}
    assert len({item["installation"] for item in facts.values()}) == 2


def test_hazard_c2_latest_is_never_another_hosts(host):
    alpha, beta = host("alpha"), host("beta", rows=70)
    of_alpha, of_beta = alpha.backup(), beta.backup()
    assert alpha.run(restore, reference="latest", dry_run=True).changed is False
    assert alpha.run(restore, reference="latest").record["backup"] == of_alpha
    assert alpha.run(drill).record["backup"]["name"] == of_alpha
    assert alpha.run(verify, reference="all").record["backups"][0]["name"] == of_alpha
    with pytest.raises(UsageError, match="was made on the host beta") as caught:
        alpha.run(restore, reference=of_beta)
    assert "--host beta" in caught.value.hint
    with pytest.raises(UsageError, match="was made on the host beta"):
        alpha.run(release, reference=str(alpha.bench.backups / of_beta))
    lines = alpha.run(list_backups).lines
    assert any("1 backup of kalshi made on beta" in line and "tradekeep list --host beta" in line for line in lines)


def test_another_hosts_backups_are_taken_with_a_word(host):
    alpha, beta = host("alpha"), host("beta", rows=70)
    with pytest.raises(UsageError, match="has made no backup yet") as caught:
        beta.backup(), alpha.run(restore, reference="latest")
    assert "--host beta" in caught.value.hint
    alpha.backup()
    of_beta = beta.backup()
    assert alpha.listed(of="beta")[0] == of_beta
    assert alpha.run(verify, of="beta", reference=of_beta).status == ExitStatus.DONE
    assert alpha.run(restore, of="beta", reference="latest").changed
    assert alpha.bench.rows() == 70
    assert any("was made on beta" in note for note in alpha.bench.notes)
    # Its own records and link say nothing of it.
    assert not any(of_beta in path.read_text() for path in alpha.bench.base.glob("state/*/catalog.json"))
    assert len(alpha.run(prune, of="beta", dry_run=False).record["removed"]) == 1
    assert beta.listed() == [of_beta]


def test_a_path_says_it_too(host):
    alpha, beta = host("alpha"), host("beta", rows=70)
    alpha.backup()
    path = str(beta.bench.backups / beta.backup())
    assert alpha.run(restore, reference=path).changed
    assert alpha.bench.rows() == 70


def test_the_command_has_the_word(host, capsys, monkeypatch):
    alpha, beta = host("alpha"), host("beta")
    alpha.backup()
    of_beta = beta.backup()
    monkeypatch.setattr(socket, "gethostname", lambda: "alpha")
    file = alpha.bench.base / "etc/kalshi.json"
    file.parent.mkdir()
    file.write_text(render_configuration(alpha.application))
    for command in (["list"], ["verify", "all"], ["prune", "--dry-run"], ["drill", "--dry-run"]):
        cli.main(["--config", str(file), *command, "--host", "beta"])
        assert of_beta in capsys.readouterr().out
    assert cli.main(["--config", str(file), "restore", "latest", "--host", "beta", "--dry-run"]) == 0


def test_each_has_its_own_latest_link(host):
    hosts = [host("alpha"), host("beta"), host("gamma", "beta")]
    for _round in range(2):
        made = [one.backup(allow_loss=("all",)) for one in hosts]
    links = {path.name: os.readlink(path) for path in hosts[0].bench.backups.iterdir() if path.is_symlink()}
    assert sorted(links.values()) == sorted(made)
    assert links["latest_backup.tar.gz"] == made[0]
    assert links["latest_backup_kalshi.tar.gz"] == made[1]
    assert links["latest_backup_kalshi_beta.tar.gz"] == made[2]


def test_backups_of_earlier_versions_go_by_the_name_of_the_host(host):
    alpha, beta = host("alpha"), host("beta")
    old = {"alpha": alpha.backup(), "beta": beta.backup()}
    for path in alpha.bench.backups.glob("*.json"):
        facts = {key: value for key, value in json.loads(path.read_text()).items() if key != "installation"}
        path.write_text(json.dumps(facts))
    for one in (alpha, beta):
        next(one.bench.base.glob("state/*/installation")).unlink()
    assert (alpha.listed(), beta.listed()) == ([old["alpha"]], [old["beta"]])
    newer = beta.backup()
    assert beta.listed() == [newer, old["beta"]]
    assert beta.run(prune, dry_run=False).record["removed"] == [old["beta"]]
    assert alpha.listed() == [old["alpha"]]


def test_a_host_with_a_new_name_keeps_its_backups(host):
    before = host("alpha").backup()
    renamed = host("alpha", "bot-1")
    assert renamed.listed() == [before]
    assert renamed.backup() in renamed.listed()
    assert renamed.run(prune, dry_run=False).record["removed"] == [before]


def test_an_installation_that_begins_anew_sees_what_the_earlier_one_made_and_removes_none_of_it(host):
    """The disk of the system is gone, that of the backups is not."""
    before = host("alpha").backup()
    anew = host("anew", "alpha")
    assert anew.listed() == [before]
    assert anew.run(restore, reference="latest").changed is True or anew.bench.rows() == 100
    own = [anew.backup(), anew.backup()]
    assert anew.listed() == own[::-1]
    assert anew.run(prune, dry_run=False).record["removed"] == own[:1]
    assert anew.listed(of="alpha") == [own[1], before]
    assert any("made on alpha by another installation" in line for line in anew.run(list_backups).lines)


def test_hazard_b1_what_another_host_is_writing_is_not_swept(host):
    """The number of its process is that of none here, and a lock on its directory is not seen over the network."""
    alpha, beta = host("alpha"), host("beta")
    beta.backup()
    alpha.backup()
    theirs = beta.catalog()
    part = theirs.temporary("user_data_20260101_000000.tar.gz")
    nobody = 2**22 - 3
    of_earlier_version = f".tradekeep-user_data_20260101_000000.tar.gz.{nobody}-0123abcd.part"
    parts = [part.with_name(part.name.replace(f".{os.getpid()}-", f".{nobody}-")), part.with_name(of_earlier_version)]
    for path in parts:
        path.write_bytes(b"half")
    with scratch_directory(part.parent, scratch_purpose(theirs.maker)) as held:
        unlocked = held.with_name(held.name[:-1] + ("0" if held.name[-1] != "0" else "1"))
        unlocked.mkdir(mode=0o700)
    alpha.backup()
    alpha.run(prune, dry_run=False)
    assert all(path.exists() for path in (*parts, unlocked))
    # Its own it knows, and of what nobody touched for a day no process is left.
    beta.catalog().sweep_leftovers()
    assert [path.exists() for path in (*parts, unlocked)] == [False, True, False]
    old = time.time() - 2 * 24 * 3600
    os.utime(parts[1], (old, old))
    alpha.catalog().sweep_leftovers()
    assert not parts[1].exists()


def test_sidecars_that_another_host_is_about_to_use_stay(host):
    alpha, beta = host("alpha"), host("beta")
    alpha.backup()
    beta.backup()
    made = Path(beta.bench.backups / beta.backup())
    made.rename(made.with_name("elsewhere"))
    alpha.run(prune, dry_run=False)
    assert made.with_name(f"{made.name}.json").exists()
    beta.run(prune, dry_run=False)
    assert not made.with_name(f"{made.name}.json").exists()


def test_applications_of_other_hosts_are_no_backups_that_nobody_claims(host):
    alpha, beta = host("alpha"), host("beta")
    beta.application = dataclasses.replace(beta.application, name="other")
    beta.backup()
    assert alpha.run(lambda application, ports: list(unclaimed_backups(application))) == []
