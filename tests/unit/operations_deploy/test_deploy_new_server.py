# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new deployment of the Kalshi system: the keys that a person must bring are named, and waited for."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.attended import attended_deploy
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.request import DeployRequest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

from .conftest import World

KEYS = ("credentials/kalshi/demo/kalshi.pem", "credentials/kalshi/prod/kalshi-auth.txt")


class Kalshi(World):
    """The code in its home, the data in ``user_data`` below."""

    @property
    def application(self):
        paths = {name: str(self.base / name) for name in ("state_dir", "backup_dir", "config_dir", "bin_dir")}
        profile = {"extends": "kalshi", "home": str(self.live), "deploy": self.settings}
        return resolve_application(profile, root=str(self.live / "user_data"), become=False, **paths)


@pytest.fixture
def kalshi(tmp_path: Path) -> Kalshi:
    made = Kalshi(tmp_path)
    made.live.mkdir()
    tree(made.application, made.ports, fix=True)
    return made


def call(world: Kalshi, *, dry_run: bool = False):
    return attended_deploy(world.application, world.ports, DeployRequest(ref="main"), dry_run=dry_run)


def test_missing_credentials_are_listed_with_path_mode_and_owner_until_all_are_there(kalshi: Kalshi) -> None:
    root = kalshi.live / "user_data"
    places = [root / key for key in KEYS]
    assert all(place.parent.is_dir() and place.parent.stat().st_mode & 0o777 == 0o700 for place in places)
    for dry_run in (True, False):
        outcome = call(kalshi, dry_run=dry_run)
        told = [line for line in outcome.lines if line.startswith("missing: ")]
        assert [line.split()[1] for line in told] == [str(place) for place in places]
        assert all("mode 0600" in line and "services stay down until it is there" in line for line in told)
        assert all("owner " in line for line in told)
    assert outcome.record["state"] == "waiting"
    assert outcome.record["missing"] == [str(place) for place in places]
    assert (kalshi.live / "bot.py").exists()
    places[0].write_text("key\n")
    places[1].touch(mode=0o600)
    outcome = call(kalshi)
    assert (outcome.record["missing"], outcome.status) == ([str(places[1])], 0), "an empty file is no key"
    places[1].write_text("key\n")
    outcome = call(kalshi)
    assert (outcome.record["state"], outcome.record["missing"]) == ("deployed", [])
    assert not call(kalshi).changed
