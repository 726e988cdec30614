# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a host must have: accounts that are made where they are missing, and packages by what the profile says."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError, ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.distribution import system_name
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.packages import needed_packages
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prerequisites import (
    ExpectedFile,
    Wanted,
    prepare_host,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed, NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import built_in_names, resolve_application

DEBIAN = ("dpkg-query", "apt-get", "apt-cache", "useradd", "groupadd")
LISTS = (
    "base-files:\n  Installed: 12\n  Candidate: 12\n  Version table:\n     12 500\n        500 http://deb.debian.org"
)
COMPONENTS = {"data": {"paths": ["data"], "directories": ["data"]}}
PEOPLE = frozenset(("admin", "azureuser", "centos", "debian", "ec2-user", "fedora", "opc", "pi", "root", "ubuntu"))


class Host(NoProgress):
    """A host's programs, the packages that are installed and known, and the accounts that it has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs = set(DEBIAN)
        self.installed: set[str] = set()
        self.known: Optional[set[str]] = None
        self.accounts = {
            name: pwd.struct_passwd((name, "x", number, number, "", f"/home/{name}", "/bin/bash"))
            for name, number in (("person", 1000), ("root", 0))
        }
        self.groups = {
            "person": grp.struct_group(("person", "x", 1000, [])),
            "root": grp.struct_group(("root", "x", 0, [])),
        }
        self.ran: list[tuple[str, ...]] = []
        self.notes: list[str] = []
        self.ports = Ports(runner=self, clock=SystemClock(), progress=self)  # type: ignore[arg-type]
        monkeypatch.setattr(pwd, "getpwnam", self.accounts.__getitem__)
        monkeypatch.setattr(grp, "getgrnam", self.groups.__getitem__)
        monkeypatch.setattr(pwd, "getpwall", lambda: list(self.accounts.values()))
        monkeypatch.setattr(grp, "getgrall", lambda: list(self.groups.values()))
        monkeypatch.setattr(grp, "getgrgid", lambda gid: next(g for g in self.groups.values() if g.gr_gid == gid))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def find(self, program: str) -> Optional[str]:
        return program if program in self.programs else None

    def run(self, argv: Sequence[str], **_options: Any) -> Completed:
        self.ran.append(tuple(argv))
        said = ""
        if argv[0] == "dpkg-query":
            said = "".join(f"{name} installed\n" for name in argv[4:] if name in self.installed)
        elif argv[0] == "apt-cache" and self.known is not None:
            known = [name for name in argv[3:] if name in self.known]
            said = "\n".join([LISTS, *(f"{name}:\n  Installed: (none)\n  Candidate: 1.0" for name in known), ""])
        return Completed(tuple(argv), 0, said, "")

    def changes(self) -> list[tuple[str, ...]]:
        return [argv for argv in self.ran if argv[0] not in ("dpkg-query", "apt-cache")]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


@pytest.fixture
def made(tmp_path: Path) -> Any:
    def make(profile: Optional[dict[str, Any]] = None, **options: Any) -> Application:
        places = {name: str(tmp_path / name) for name in ("root", "backup_dir", "config_dir", "state_dir", "bin_dir")}
        definition = {"name": "toy", "components": COMPONENTS, **(profile or {})}
        return resolve_application(definition, **{**places, "owner": "person", **options})

    return make


def prepared(host: Host, application: Application, dry_run: bool = False, **wanted: Any) -> Outcome:
    return prepare_host(application, host.ports, Wanted(**wanted), dry_run=dry_run)


def test_an_account_that_exists_is_never_changed(host: Host, made: Any) -> None:
    done = prepared(host, made())
    assert (done.changed, host.changes(), host.notes) == (False, [], [])
    other = prepared(host, made(group="root"))
    assert (other.changed, host.changes()) == (False, [])
    assert host.notes == [
        "the account person exists and is not in the group root, which is not changed; "
        "set tradekeep_group to person for files of its own group"
    ]
    grouped = prepared(host, made(group="traders"))
    assert grouped.changed
    assert host.changes() == [("groupadd", "--system", "traders")]


def test_an_account_that_is_missing_is_made_for_a_service(host: Host, made: Any) -> None:
    application = made({"home": "/opt/toy"}, owner="bot")
    planned = prepared(host, application, dry_run=True)
    assert (planned.changed, host.changes()) == (True, [])
    assert (planned.before["account"]["state"], planned.after["account"]["shell"]) == ("absent", "/usr/sbin/nologin")
    prepared(host, application)
    group, account = host.changes()
    assert group == ("groupadd", "--system", "bot")
    assert account[-1] == "bot"
    assert "--no-create-home" in account and "/opt/toy" in account and "/usr/sbin/nologin" in account


def test_no_built_in_belongs_to_an_account_that_people_log_in_with() -> None:
    for name in built_in_names():
        try:
            assert resolve_application(name).owner not in PEOPLE
        except ConfigurationError as error:
            assert (name, error.path) == ("paper_bot", "owner")
            assert "tradekeep_owner" in str(error)


def test_everything_that_is_wrong_is_found_at_once_and_nothing_is_made(host: Host, made: Any, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    host.known = {"gnupg"}
    parts = {"data": {"paths": ["data"], "owner": "nobody_here", "files": [{"pattern": "x", "group": "no_group"}]}}
    application = made({"components": parts}, owner="bot", root="/home/person", passphrase_file=f"{tmp_path}/secret")
    done = prepared(
        host,
        application,
        packages=("libta-lib0",),
        files=(
            ExpectedFile(f"{tmp_path}/directory"),
            ExpectedFile(f"{tmp_path}/new/file", owner="missing", group="bot"),
        ),
        existing=(f"{tmp_path}/key",),
        space=1 << 60,
    )
    assert (done.status, done.changed, host.changes()) == (ExitStatus.USAGE, False, [])
    expected = (
        "libta-lib0: apt knows no such package",
        "nobody_here: there is no such account",
        "no_group: there is no such group",
        "/home/person: is the home of the account person",
        f"{tmp_path}/secret: the passphrase file does not exist",
        f"{tmp_path}/key: there is no such file on the host",
        f"{tmp_path}/directory: is a directory on the host",
        f"{tmp_path}/new/file: cannot belong to missing: there is no such account",
        "needed for the data and",
    )
    assert len(done.record["problems"]) == len(expected), done.record["problems"]
    for text, problem in zip(expected, done.record["problems"]):
        assert text in problem
    assert done.record["directories"] == [f"{tmp_path}/new"]
    brought = prepared(host, made(passphrase_file=f"{tmp_path}/secret"), brought=(f"{tmp_path}/secret",))
    assert brought.record["problems"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another account's directory")
def test_a_directory_that_others_can_change_is_found_before_anything_is_made(
    host: Host, made: Any, tmp_path: Path
) -> None:
    (tmp_path / "bin_dir").mkdir()
    (tmp_path / "bin_dir").chmod(0o777)
    done = prepared(host, made(owner="bot"))
    assert host.changes() == []
    assert [problem.partition(":")[0] for problem in done.record["problems"]] == [f"{tmp_path}/bin_dir"]


@pytest.mark.parametrize(
    ("profile", "options", "required", "optional"),
    [
        ({}, {}, [], ["gnupg", "isal"]),
        ({"compression": "zstd"}, {}, ["zstd"], ["gnupg"]),
        ({}, {"passphrase_file": "/etc/secret"}, ["gnupg"], ["isal"]),
        ({"deploy": {"repository": "https://x.example/b.git"}}, {}, ["git", "ca-certificates"], ["gnupg", "isal"]),
        ({"deploy": {"repository": "git@x.example:b.git"}}, {}, ["git", "openssh-client"], ["gnupg", "isal"]),
        ({"deploy": {"repository": "ssh://x.example/b"}}, {}, ["git", "openssh-client"], ["gnupg", "isal"]),
        ({"deploy": {"dependencies": {}}}, {}, ["git", "python3-venv"], ["gnupg", "isal"]),
        (
            {"deploy": {"repository": "/srv/b", "dependencies": {"python": "/usr/bin/python3.11"}}},
            {},
            ["git", "python3.11-venv"],
            ["gnupg", "isal"],
        ),
        (
            {"deploy": {"repository": "/srv/b", "dependencies": {"python": "/opt/python/bin/python3"}}},
            {},
            ["git"],
            ["gnupg", "isal"],
        ),
        (
            {"deploy": {"repository": "/srv/b", "signers": "/etc/signers"}},
            {},
            ["git", "gnupg", "openssh-client"],
            ["isal"],
        ),
    ],
)
def test_packages_follow_from_the_profile(
    made: Any, profile: dict[str, Any], options: dict[str, Any], required: list[str], optional: list[str]
) -> None:
    found = needed_packages(made(profile, **options))
    assert sorted(item.name for item in found if not item.optional) == sorted(required)
    assert [item.name for item in found if item.optional] == optional


def test_packages_that_are_missing_are_named_and_apt_is_believed_only_with_its_lists(host: Host, made: Any) -> None:
    host.installed = {"gnupg"}
    zstd = made({"compression": "zstd"})
    done = prepared(host, zstd, packages=("supervisor",))
    assert (done.record["packages"], done.record["optional_packages"]) == (["zstd", "supervisor"], [])
    host.known = {"zstd"}
    (problem,) = prepared(host, zstd, packages=("supervisor",)).record["problems"]
    assert problem.startswith("supervisor: apt knows no such package")
    done = prepared(host, made())
    assert (done.record["optional_packages"], host.notes) == (
        [],
        ["apt knows no package isal (faster compression); all works without"],
    )


def test_a_host_without_dpkg_is_told_what_is_supported(host: Host, made: Any, tmp_path: Path) -> None:
    host.programs -= {"dpkg-query", "apt-get"}
    done = prepared(host, made(owner="bot"))
    assert done.changed
    assert (done.record["packages"], done.record["optional_packages"]) == ([], [])
    (note,) = host.notes
    assert "Debian and Ubuntu are supported (tried on Debian 11, 12 and 13)" in note
    assert "isal (faster compression) is missing" in note
    host.ran.clear()
    refused = prepared(host, made({"compression": "zstd"}, owner="bot"))
    assert (refused.status, host.changes()) == (ExitStatus.USAGE, [])
    assert "zstd (compression) is missing" in refused.lines[0]
    host.programs.add("zstd")
    assert prepared(host, made({"compression": "zstd"}, owner="bot")).status is ExitStatus.DONE
    (tmp_path / "os-release").write_text('ID=fedora\nPRETTY_NAME="Fedora Linux 41"\n')
    assert system_name(str(tmp_path)) == "Fedora Linux 41"
