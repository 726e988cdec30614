# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The playbook that recovers a server, from end to end, as an account that is not root would run it."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from playing import ansible

NAMES = ("root", "backup_dir", "config_dir", "state_dir", "bin_dir")
PROFILE = {
    "name": "toy",
    "root": "/opt/toy",
    "owner": "toy",
    "components": {
        "state": {
            "paths": ["state"],
            "directories": ["state"],
            "files": [{"pattern": "state/mode.json", "template": {"mode": "demo"}}],
        },
    },
    "deploy": {"requires": ["state/key.txt"]},
}


class Place:
    """One server's directories, and the playbooks that are run on it."""

    def __init__(self, base: Path, collections: Path, repository: Path) -> None:
        base.mkdir()
        self.base = base
        self._collections = collections
        self.variables: dict[str, Any] = {
            **{f"tradekeep_{name}": str(base / name) for name in NAMES},
            "tradekeep_profile": PROFILE,
            "tradekeep_become": False,
            "deploy_repository": str(repository),
        }

    def play(self, playbook: str, *words: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        given = json.dumps({**self.variables, **variables})
        return ansible(
            self.base, self._collections, "ansible-playbook", f"tradekeep.ops.{playbook}", "-e", given, *words
        )

    def works(self, playbook: str, *words: str, **variables: Any) -> str:
        done = self.play(playbook, *words, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, playbook: str, **variables: Any) -> str:
        done = self.play(playbook, **variables)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return " ".join(done.stdout.split())

    def read(self, name: str) -> str:
        return (self.base / "root" / name).read_text()

    def records(self) -> list[dict[str, Any]]:
        found = (self.base / "state_dir/toy/recoveries").glob("*.json")
        return [json.loads(path.read_text()) for path in sorted(found)]

    def leftovers(self) -> list[str]:
        return [path.name for path in (self.base / "state_dir").glob(".tradekeep-*")]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("upstream") / "toy"
    place.mkdir()
    (place / "bot.py").write_text("print('trade')\n")
    who = ["-c", "user.name=developer", "-c", "user.email=developer@example.com"]
    for words in (["init", "-q", "--initial-branch=main"], ["add", "."], [*who, "commit", "-qm", "Trade"]):
        subprocess.run(["git", *words], cwd=place, check=True)
    return place


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, collections: Path, repository: Path) -> Path:
    """What was fetched from the old server."""
    old = Place(tmp_path_factory.mktemp("old") / "server", collections, repository)
    old.works("site")
    for name, content in (("key.txt", "secret\n"), ("fills.jsonl", '{"fill": 1}\n'), ("mode.json", '{"mode": "prod"}')):
        (old.base / "root/state" / name).write_text(content)
    old.works("backup", backup_poll=1)
    (made,) = (path for path in (old.base / "backup_dir").glob("*.tar.gz") if not path.is_symlink())
    return made


@pytest.fixture
def new(tmp_path: Path, collections: Path, repository: Path, archive: Path) -> Place:
    place = Place(tmp_path / "new", collections, repository)
    place.variables.update(recover_archive_on_controller=str(archive), deploy_ref="main")
    return place


def test_hazard_c1_a_server_is_recovered_once_and_what_it_held_is_backed_up(new: Place, archive: Path) -> None:
    (new.base / "known_hosts").write_text("git.example.com ssh-ed25519 AAAA\n")
    (new.base / "kept").mkdir(mode=0o710)
    places = [new.base / "kept/known_hosts", new.base / "etc/ssh/known_hosts"]
    new.variables["recover_files"] = [{"src": str(new.base / "known_hosts"), "dest": str(place)} for place in places]
    planned = new.works("recover_server", "--check")
    assert "would put the data of" in planned
    assert "account, packages, files and disk are as needed" in planned
    assert f"would install {places[1].parent}" in planned
    assert not (new.base / "root").exists() and not (new.base / "etc").exists()
    (new.base / "records").mkdir()
    said = new.works("recover_server", recover_record_dir=str(new.base / "records"))
    assert all(place.read_text().startswith("git.example.com") for place in places)
    assert places[0].parent.stat().st_mode & 0o777 == 0o710, "what exists keeps its mode"
    assert new.read("bot.py") == "print('trade')\n"
    assert new.read("state/fills.jsonl") == '{"fill": 1}\n'
    assert new.read("state/mode.json") == '{"mode": "prod"}'
    (record,) = new.records()
    names = [phase["name"] for phase in record["phases"]]
    brought = ["packages and files", "code", "transfer", "data and start"]
    assert names == ["archive", "python", "tree", "command", *brought, "timers"]
    assert all(phase["seconds"] > 0 for phase in record["phases"])
    assert record["kept_aside"] == []
    assert re.search(r"data and start +[\d.]+ s", said), said
    assert json.loads((new.base / "records/localhost.json").read_text()) == record
    assert new.leftovers() == []
    (new.base / "root/state/fills.jsonl").write_text('{"fill": 1}\n{"fill": 2}\n')
    again = new.works("recover_server")
    assert "changed=0" in again, again
    assert "its data was left alone" in again
    assert new.read("state/fills.jsonl") == '{"fill": 1}\n{"fill": 2}\n', "the bot has gone on since"
    assert len(new.records()) == 1
    assert "no spare host" in new.fails("recover_server", recover_drill=True)
    fence = {"at": "2026-03-01T00:00:00", "reason": "moved away", "masked": [], "services": []}
    (new.base / "state_dir/toy/fenced.json").write_text(json.dumps(fence))
    said = new.works(
        "recover_server", recover_again=True, recover_archive_on_controller="", recover_archive=str(archive)
    )
    assert "this host is fenced since 2026-03-01T00:00:00: moved away; nothing was started" in " ".join(said.split())
    assert "tradekeep.ops.deploy : " not in said
    assert new.read("state/fills.jsonl") == '{"fill": 1}\n'
    (kept,) = new.records()[-1]["kept_aside"]
    with tarfile.open(kept) as opened:
        (name,) = (name for name in opened.getnames() if name.endswith("state/fills.jsonl"))
        before = opened.extractfile(name)
        assert before is not None and before.read() == b'{"fill": 1}\n{"fill": 2}\n'


def test_what_cannot_be_recovered_is_said_and_replaces_nothing(new: Place, archive: Path, tmp_path: Path) -> None:
    at_once = new.fails(
        "recover_server",
        recover_archive_on_controller=str(tmp_path / "absent.tar.gz"),
        recover_key_on_controller=str(tmp_path / "absent.asc"),
        recover_files=[{"src": str(tmp_path / "absent.service"), "dest": str(tmp_path)}],
        deploy_repository="git@git.example.com:me/bot.git",
    )
    for lacking in (
        "absent.tar.gz: there is no such archive on the controller",
        "absent.asc: there is no such file on the controller",
        "absent.service: there is no such file on the controller",
        f"{tmp_path}: is a directory on the host",
        "nothing on the host says which key git.example.com has",
    ):
        assert lacking in at_once
    assert not any((new.base / name).exists() for name in NAMES)
    assert "Say which code" in new.fails("recover_server", deploy_ref="")
    assert "one of them" in new.fails("recover_server", recover_archive="/somewhere")
    damaged = tmp_path / archive.name
    damaged.write_bytes(archive.read_bytes()[:-9])
    cut_off = {"recover_archive_on_controller": str(damaged)}
    new.fails("recover_server", **cut_off)
    (record,) = new.records()
    assert (record["state"], record["commit"] is None) == ("failed", False)
    assert str(damaged.name) in record["problems"][0]
    assert not (new.base / "root/state/fills.jsonl").exists()
    (tmp_path / f"{archive.name}.sha256").write_text(archive.with_name(f"{archive.name}.sha256").read_text())
    assert "is not what its .sha256 says" in new.fails("recover_server", **cut_off)
    assert new.leftovers() == []


def test_a_rehearsal_is_a_drill_and_fails_for_a_missed_target(new: Place) -> None:
    slow = {**PROFILE, "drill": {"rto_seconds": 1}}
    assert "RTO was missed" in new.fails("recover_server", recover_drill=True, tradekeep_profile=slow)
    assert [record["state"] for record in new.records()] == ["rehearsed"]
    (drill,) = (json.loads(path.read_text()) for path in (new.base / "state_dir/toy/drills").glob("*.json"))
    assert (drill["verdict"], drill["source"]) == ("missed", "a spare host")
