# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Owners by number, as containers have them, and data of another account, which stays that account's."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Application, Tier
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import load_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError, ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prerequisites import Wanted, prepare_host
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

NUMBER = 61098
"""That of no account of the machine."""
KNOWN = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: data belongs to other accounts")


class Notes(NoProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def ports(notes: Any = None) -> Ports:
    return Ports(runner=SubprocessRunner(), clock=SystemClock(), progress=notes or NoProgress(), workers=True)


def configured(base: Path, **options: Any) -> Application:
    places = {name: str(base / name) for name in ("backup_dir", "config_dir", "state_dir", "bin_dir")}
    return resolve_application("freqtrade", root=str(base / "freqtrade"), **{**places, **options})


def made_by_the_container(base: Path, uid: int = NUMBER, gid: int = NUMBER) -> Path:
    """What its image has written."""
    data = base / "freqtrade/user_data"
    data.mkdir(parents=True)
    (data / "config.json").write_text("{}")
    for path in (data / "config.json", data, data.parent):
        os.chown(path, uid, gid)
    return data


def owners(base: Path) -> set[tuple[int, int]]:
    root = base / "freqtrade"
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in (root, *root.rglob("*"))}


@pytest.fixture
def base() -> Iterator[Path]:
    """Not below pytest's directories, which other accounts cannot enter."""
    place = tempfile.mkdtemp()
    os.chmod(place, 0o755)
    yield Path(place)
    shutil.rmtree(place)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("#1000", True),
        ("#0", True),
        ("1000", False),
        ("#", False),
        ("#01", False),
        ("#4294967295", False),
        ("#x", False),
    ],
)
def test_a_number_is_written_with_a_hash(tmp_path: Path, said: str, right: bool) -> None:
    if right:
        assert (configured(tmp_path, owner=said).owner, configured(tmp_path, owner=said).group) == (said, said)
        return
    with pytest.raises(ConfigurationError, match=r"'#1000' for a number|no account has such"):
        configured(tmp_path, owner=said)


@needs_root
@pytest.mark.parametrize(
    ("uid", "gid"), [(NUMBER, NUMBER), (KNOWN.pw_uid, KNOWN.pw_gid)], ids=["no name", "a name on this host"]
)
def test_the_number_of_a_container_stays_the_owner(base: Path, uid: int, gid: int) -> None:
    """Nobody is made, nothing changes hands, and backups are made as the number; a second look finds nothing."""
    made_by_the_container(base, uid, gid)
    application = configured(base, owner=f"#{uid}", group=f"#{gid}")
    ready = prepare_host(application, ports(), Wanted(), dry_run=True)
    assert (ready.changed, ready.record["problems"]) == (False, [])
    tree(application, ports(), fix=True)
    assert owners(base) == {(uid, gid)}
    assert not tree(application, ports(), fix=True).changed
    Path(application.backup_dir).mkdir(mode=0o700)
    install_configuration(application)
    loaded = load_application(app="freqtrade", config_dir=str(application.config_dir))
    assert (loaded.owner, loaded.group) == (f"#{uid}", f"#{gid}")
    assert not [text for text in check_configuration(loaded, ports()).record["problems"] if "account" in text]
    assert backup(loaded, ports(), tier=Tier.MANUAL).status == ExitStatus.DONE


@needs_root
@pytest.mark.parametrize("owner", ["nobody", "not-made-yet"])
def test_data_of_another_account_is_not_taken_from_it(base: Path, owner: str) -> None:
    """Both are named, with the ways out; nothing is made and nothing changes hands."""
    made_by_the_container(base)
    application, notes = configured(base, owner=owner, group=f"#{KNOWN.pw_gid}"), Notes()
    said = (
        f"{base}/freqtrade: belongs to #{NUMBER}, and tradekeep_owner is {owner}; nothing was changed "
        f"(set tradekeep_owner to '#{NUMBER}'; or layout_take_over: true (tree --fix --take-over) gives it to {owner}, "
        f"and nothing that runs as #{NUMBER} can write there any more)"
    )
    assert prepare_host(application, ports(), Wanted(), dry_run=True).record["problems"] == [said]
    for options in ({"fix": True}, {"fix": False, "assume_owner": True}):
        with pytest.raises(ConfigurationError) as refused:
            tree(application, ports(), **options)
        assert str(refused.value) == said
    assert owners(base) == {(NUMBER, NUMBER)}
    if owner == "nobody":
        assert tree(application, ports(notes), fix=False).status == ExitStatus.FINDINGS
        assert notes.notes == [said]
        assert prepare_host(application, ports(), Wanted(take_over=True), dry_run=True).record["problems"] == []
        tree(application, ports(), fix=True, take_over=True)
        assert {uid for uid, _gid in owners(base)} == {KNOWN.pw_uid}


@needs_root
def test_a_component_of_another_account_is_found_and_roots_is_nobodys(base: Path) -> None:
    data = made_by_the_container(base, 0, 0)
    application = configured(base, owner="nobody", group=f"#{KNOWN.pw_gid}")
    tree(application, ports(), fix=True)
    assert {uid for uid, _gid in owners(base)} == {KNOWN.pw_uid}
    os.chown(data, NUMBER, NUMBER)
    with pytest.raises(ConfigurationError, match=f"{data}: belongs to #{NUMBER}"):
        tree(application, ports(), fix=True)
