# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The inventory of docs/first-server.md with one thing wrong: one sentence, nothing is made, and the way out works."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from playing import CHECKOUT
from test_keys import make_keys
from test_site import UID, Servers, words_of

BLOCK = re.compile(r"^```(?:yaml|ini)\n# (inventories/mine/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
UNIT = "trading_system.service"
SECRETS = ("kalshi-demo.pem", "kalshi.pem", "kalshi-auth.txt")


def shown(guide: str) -> dict[str, str]:
    """The files that a guide shows, by their name beside the inventory."""
    text = (CHECKOUT / "docs" / guide).read_text(encoding="utf-8")
    return {name.removeprefix("inventories/mine/"): content for name, content in BLOCK.findall(text)}


@pytest.fixture
def servers(tmp_path: Path, collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Servers:
    """The person's desk, with all that the guide has made so far, and an account that the person logs in with."""
    servers = Servers(tmp_path, collections)
    with open(tmp_path / "etc/passwd", "a") as accounts:
        accounts.write(f"trading_user:x:{UID + 2}:{UID + 2}:Person,,,:/home/person:/bin/bash\n")
    with open(tmp_path / "etc/group", "a") as groups:
        groups.write(f"trading_user:x:{UID + 2}:\n")
    for name in ("keys", "files", "safe"):
        (tmp_path / name).mkdir()
    make_keys(tmp_path / "keys", tmp_path_factory.mktemp("g") / "h")
    for name in SECRETS:
        (tmp_path / "safe" / name).write_text("not-a-real-key\n")
    (tmp_path / "files" / UNIT).write_text(shown("first-server.md")[f"files/{UNIT}"])
    return servers


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes accounts, in a mount namespace")
@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_each_trouble_is_one_sentence_and_the_way_out_works(servers: Servers) -> None:
    base = servers.base
    guide = yaml.safe_load(shown("first-server.md")["hosts.yml"])["all"]["vars"]
    guide.pop("ansible_user")
    profile = guide.pop("tradekeep_profile")

    def add(name: str, **wrong: Any) -> Path:
        return servers.add(name, wrong.pop("profile", profile), **{**guide, **wrong})

    account = add("account")
    name = add("name", profile={**profile, "services": [{"manager": "systemd", "units": ["trading_sytem.service"]}]})
    unit, mistyped = add("unit"), base / "typo" / UNIT
    mistyped.parent.mkdir()
    mistyped.write_text((base / "files" / UNIT).read_text().replace("User=", "Usr="))
    servers.hosts["unit"]["units_files"] = [{"src": str(mistyped)}]
    root = add("root")
    (root / "root").mkdir()
    os.chown(root / "root", UID, UID)
    system = add("system", tradekeep_root="/opt")
    key = add("key", backup_gpg_key_files=["{{ inventory_dir }}/keys/oprator.asc"])
    key_of_exchange = {"path": "credentials/kalshi/prod/kalshi.pem", "src": "~/safe/klashi.pem"}
    servers.hosts["key"]["layout_credentials"] = [key_of_exchange]
    before = servers.accounts()

    said, ended = servers.layout()
    assert [host for host, end in ended.items() if end != "failed"] == ["account"], said
    assert servers.accounts() == before, "the account that exists is left alone, and no other is made"
    assert (account / "root/state").stat().st_uid == UID + 2
    for place in (name, unit, system, key):
        assert not list(place.iterdir())
    assert (list((root / "root").iterdir()), (root / "root").stat().st_uid) == ([], UID)
    assert words_of(said, "name") == (
        f"{UNIT}: is none of the profile's services (it has trading_sytem.service), so that no restore and no deploy "
        "would stop it (mend the name in units_files, or name it in services of the profile)"
    )
    assert re.fullmatch(
        rf"{UNIT}: systemd does not understand it: line 7: Unknown key.*'Usr'.* \(mend the file that units_files .*\)",
        words_of(said, "unit"),
    )
    assert words_of(said, "root") == (
        f"{root}/root: belongs to azureuser, and tradekeep_owner is trading_user; nothing was changed (set "
        "tradekeep_owner to azureuser; or layout_take_over: true (tree --fix --take-over) gives it to trading_user, "
        "and nothing that runs as azureuser can write there any more)"
    )
    assert words_of(said, "system") == (
        "root: expected a directory of the bot's own, found '/opt' (for instance /opt/my_bot)"
    )
    absent = f"~/safe/klashi.pem, {base}/keys/oprator.asc"
    assert words_of(said, "key") == f"These files do not exist on the controller, and nothing was done: {absent}"

    servers.hosts["name"]["tradekeep_profile"] = profile
    servers.hosts["unit"]["units_files"] = guide["units_files"]
    servers.hosts["root"]["tradekeep_owner"] = "azureuser"
    servers.hosts.pop("system")
    servers.hosts["key"]["backup_gpg_key_files"] = guide["backup_gpg_key_files"]
    servers.hosts["key"]["layout_credentials"] = guide["layout_credentials"]
    said, ended = servers.layout()
    assert ended.pop("account") == "changed=0"
    assert set(ended.values()) == {"changed=1"}, said
    assert (root / "root/state").stat().st_uid == UID
