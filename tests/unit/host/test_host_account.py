# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Programs that run as the owner of an application and not as root."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CommandError, ConfigurationError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import account as accounts
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import (
    Account,
    account_of,
    asker,
    command_as,
    current_account,
    environment_of,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner

NOBODY = pwd.getpwnam("nobody")


def said(argv: list[str]) -> str:
    return SubprocessRunner().run(argv).stdout.strip()


def test_an_account_is_found_by_name_and_by_number() -> None:
    nobody = account_of("nobody")
    assert nobody == Account("nobody", NOBODY.pw_uid, NOBODY.pw_gid, NOBODY.pw_dir)
    assert account_of(f"#{NOBODY.pw_uid}") == nobody
    assert account_of("#54321", "#54322") == Account("#54321", 54321, 54322, "/")
    assert [account_of(name).as_argument for name in ("nobody", "#54321")] == ["nobody", "54321"]
    assert account_of("") == current_account()
    with pytest.raises(ConfigurationError, match="no such account"):
        account_of("no-such-bot")


def test_what_runs_as_oneself_is_left_as_it_is() -> None:
    assert command_as(current_account(), ["true"]) == ["true"]
    assert command_as(current_account(), ["true"], directory="/tmp") == ["env", "--chdir=/tmp", "true"]


def test_who_is_not_root_becomes_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts.os, "geteuid", lambda: 1000)
    assert command_as(Account("other", 1001, 1001, "/home/other"), ["true"]) == ["true"]


@pytest.mark.root
def test_hazard_d12_root_hands_a_program_to_the_owner_with_the_owners_groups_only() -> None:
    nobody = account_of("nobody")
    program = ["sh", "-c", "id -u; id -g; id -G; pwd; grep CapEff /proc/self/status"]
    uid, gid, groups, directory, capabilities = said(command_as(nobody, program, directory="/tmp")).splitlines()
    assert (uid, gid, directory) == (str(nobody.uid), str(nobody.gid), "/tmp")
    assert "0" not in groups.split()
    assert int(capabilities.split()[1], 16) == 0


@pytest.mark.root
def test_an_account_without_a_name_keeps_none_of_roots_groups() -> None:
    assert said(command_as(account_of("#54321", "#54322"), ["id", "-G"])) == "54322"


@pytest.mark.root
def test_a_directory_that_the_account_may_not_enter_is_not_entered_by_root(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o700)
    with pytest.raises(CommandError, match="Permission denied"):
        said(command_as(account_of("nobody"), ["true"], directory=str(tmp_path)))


def test_the_environment_names_the_accounts_own_home() -> None:
    assert environment_of(account_of("nobody")) == {"HOME": NOBODY.pw_dir, "USER": "nobody", "LOGNAME": "nobody"}


def test_who_asks_is_named_also_where_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert asker() == current_account().name
    monkeypatch.setenv("SUDO_USER", "somebody")
    assert asker() == "somebody"
