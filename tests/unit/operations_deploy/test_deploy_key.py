# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key of a private repository: where it is missing, one sentence says so before any server is asked."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import Account, current_account
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.code_access import require_key
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.deploy import deploy
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.request import DeployRequest


def everything(base: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in base.rglob("*")}


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_key_that_is_missing_is_said_before_anything_is_asked_or_changed(world, dry_run: bool) -> None:
    world.settings.update(repository="git@127.0.0.1:me/bot.git", ssh_key_file=str(world.base / "deploy_key"))
    before = everything(world.live)
    with pytest.raises(ConfigurationError) as refused:
        deploy(world.application, world.ports, DeployRequest(ref="main"), dry_run=dry_run)
    assert str(refused.value) == (
        f"{world.base}/deploy_key: the ssh key that the code is fetched with is not on the host "
        f"(put it there with mode 0600 for {current_account().name}, who fetches the code: docs/private-repository.md)"
    )
    assert everything(world.live) == before
    # Whoever sets up the host hears of it before the first deploy.
    assert any("deploy_key: the ssh key" in line for line in check_configuration(world.application, world.ports).lines)


def test_the_key_is_the_owners_to_read_and_other_addresses_need_none(world) -> None:
    key = world.base / "deploy_key"
    key.write_text("key\n")
    key.chmod(0o600)
    world.settings.update(repository="ssh://git@127.0.0.1/me/bot.git", ssh_key_file=str(key))
    require_key(world.application, current_account())
    if os.geteuid() == 0:
        with pytest.raises(ConfigurationError, match="cannot be read: permission denied"):
            require_key(world.application, Account("nobody", 65534, 65534, "/"))
    key.unlink()
    world.settings.update(repository=str(world.upstream))
    require_key(world.application, dataclasses.replace(current_account(), name="x"))
