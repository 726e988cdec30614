# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two applications with one root, and an application whose name or places change in the inventory."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import configured_names
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ArchiveError,
    ConfigurationError,
    ExitStatus,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.claims import unclaimed_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.rename import rename
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage import relocation
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.lock import application_lock

BOT = {"components": {"state": {"paths": ["state"], "critical": True}}}


@pytest.fixture
def bot(make_bench):
    """An application that is configured, with data and two backups, of which one was verified and one is released."""
    made = make_bench(BOT, app="alpha")
    made.make_tree()
    (made.root / "state").mkdir()
    (made.root / "state/positions.json").write_text('{"held": 1}')
    install_configuration(made.application)
    made.made = [
        backup(made.application, made.ports, name=name).record["backup"]["name"] for name in ("first", "second")
    ]
    catalog = LocalCatalog(made.application, made.ports.clock)
    catalog.release(catalog.find("first"))
    made.notes.clear()
    return made


def called(bench, name=None, **changes):
    """The same application as the inventory may call it now."""
    changed = dataclasses.replace(bench.application, **changes)
    if name is not None:
        profile = dataclasses.replace(changed.profile, name=name, archive_prefix=name)
        changed = dataclasses.replace(changed, name=name, profile=profile)
    return changed


def place(bench, name):
    return type(bench.application.backup_dir)(bench.base / name)


def everything(top):
    """What lies where, but for the file of the lock."""
    return {
        str(path.relative_to(top)): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in sorted(top.rglob("*"))
        if not path.is_dir() and path.name != "lock"
    }


def names(application, bench):
    return [item["name"] for item in list_backups(application, bench.ports).record["backups"]]


# Refusals


def test_a_second_application_with_the_same_root_is_refused(bot, tmp_path):
    (tmp_path / "link").symlink_to(bot.root)
    linked = dataclasses.replace(called(bot, "beta"), root=type(bot.application.root)(tmp_path / "link"))
    for second in (called(bot, "beta"), linked):
        for dry_run in (True, False):
            with pytest.raises(ConfigurationError, match="is the root of the application alpha already") as caught:
                install_configuration(second, dry_run=dry_run)
        assert "tradekeep.ops.rename -e rename_from=alpha" in caught.value.hint
    assert configured_names(str(bot.application.config_dir)) == ("alpha",)


@pytest.mark.parametrize(
    ("below", "refused"),
    [
        ("state", "state/data"),
        ("state/inner", "state/inner/data"),
        ("state/cache", None),
        ("other", None),
    ],
)
def test_a_root_below_a_component_of_another_is_refused(make_bench, below, refused):
    outer = make_bench({"components": {"state": {"paths": ["state"], "exclude": ["state/cache"]}}}, app="outer")
    install_configuration(outer.application)
    profile = {"components": {"data": {"paths": ["data"]}}}
    inner = make_bench(profile, app="inner", root=str(outer.root / below)).application
    if refused is None:
        assert install_configuration(inner).changed
        return
    with pytest.raises(ConfigurationError, match="belongs to a component of inner and to one of outer") as caught:
        install_configuration(inner)
    assert caught.value.path == str(outer.root / refused)


def test_config_check_finds_what_an_older_version_accepted(bot):
    install_configuration(called(bot, "beta"), renamed=True)
    found = check_configuration(called(bot, "beta"), bot.ports)
    assert found.status is ExitStatus.FINDINGS
    assert any("is the root of the application alpha already" in text for text in found.record["problems"])


@pytest.mark.parametrize("what", ["backup_dir", "state_dir", "root", "profile"])
def test_what_would_be_left_behind_is_refused(bot, what):
    if what == "profile":
        changed = dataclasses.replace(
            bot.application, profile=dataclasses.replace(bot.application.profile, name="another")
        )
    else:
        changed = called(bot, **{what: type(getattr(bot.application, what))(bot.base / f"new_{what}")})
    before = everything(bot.base)
    for dry_run in (True, False):
        with pytest.raises(ConfigurationError, match="is configured with it on this host") as caught:
            install_configuration(changed, dry_run=dry_run)
    assert "tradekeep.ops.rename" in caught.value.hint
    assert everything(bot.base) == before


def test_another_prefix_leaves_nothing_behind(bot):
    profile = dataclasses.replace(bot.application.profile, archive_prefix="another")
    changed = dataclasses.replace(bot.application, profile=profile)
    assert install_configuration(changed).changed
    assert names(changed, bot) == bot.made[::-1]


def test_what_no_application_claims_is_noted(bot):
    os.unlink(bot.application.config_file)
    (note,) = unclaimed_backups(called(bot, "beta"))
    assert note.startswith(f"{bot.backups}: 2 backups of the application alpha, which is not configured here")
    assert list(unclaimed_backups(bot.application)) == []


# The way


def test_a_new_name_takes_everything_along(bot):
    new = called(bot, "beta")
    before = everything(bot.base)
    planned = rename(new, bot.ports, former="alpha", dry_run=True)
    assert everything(bot.base) == before
    done = rename(new, bot.ports, former="alpha")
    assert done.changed
    assert done.record["steps"] == planned.record["steps"]
    assert configured_names(str(new.config_dir)) == ("beta",)
    assert not Path(bot.application.application_state_dir).exists()
    assert names(new, bot) == bot.made[::-1]
    catalog = LocalCatalog(new, bot.ports.clock)
    assert all(item.good and item.verified_level for item in catalog.list())
    assert [item.label for item in catalog.list() if item.pinned] == ["second"]
    assert os.readlink(bot.backups / "latest_backup.tar.gz") == bot.made[1]
    assert check_configuration(new, bot.ports).record["problems"] == []
    after = everything(bot.base)
    for options in ({"former": "alpha"}, {}):
        for dry_run in (True, False):
            assert not rename(new, bot.ports, dry_run=dry_run, **options).changed
    assert not install_configuration(new).changed
    assert everything(bot.base) == after
    # Nothing of a backup is refused or doubted for its old name.
    (bot.root / "state/positions.json").write_text('{"held": 2}')
    bot.notes.clear()
    assert restore(new, bot.ports).record["backup"] == bot.made[1]
    assert bot.notes == []
    assert backup(new, bot.ports, tier="daily").record["backup"]["name"].startswith("beta_")


@pytest.mark.parametrize("copied", [False, True], ids=["by name", "to another filesystem"])
def test_a_new_backup_directory_takes_them_along(bot, monkeypatch, copied):
    if copied:
        link = os.link

        def across(source, target, **options):
            if Path(source).parent != Path(target).parent:
                raise OSError(18, "Invalid cross-device link")
            link(source, target, **options)

        monkeypatch.setattr(relocation.os, "link", across)
    held = {name: (bot.backups / name).read_bytes() for name in bot.made}
    new = called(bot, backup_dir=place(bot, "elsewhere"))
    rename(new, bot.ports)
    assert os.listdir(bot.backups) == []
    assert names(new, bot) == bot.made[::-1]
    for name, content in held.items():
        path = Path(new.backup_dir, name)
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o777 == 0o600
    catalog = LocalCatalog(new, bot.ports.clock)
    assert all(item.good for item in catalog.list())
    assert [item.label for item in catalog.list() if item.pinned] == ["second"]
    assert os.readlink(Path(new.backup_dir, "latest_backup.tar.gz")) == bot.made[1]
    assert not rename(new, bot.ports).changed


def test_a_new_root_is_taken_over_once_the_data_is_there(bot):
    new = called(bot, root=type(bot.application.root)(bot.base / "moved"))
    before = everything(bot.base)
    for dry_run in (True, False):
        with pytest.raises(UsageError, match="the data is still in the root that was") as caught:
            rename(new, bot.ports, dry_run=dry_run)
    assert f"mv {bot.root} {new.root}" in caught.value.hint
    assert everything(bot.base) == before
    bot.root.rename(str(new.root))
    assert rename(new, bot.ports).record["steps"] == [f"write {new.config_file}"]
    assert restore(new, bot.ports).record["state"] == "unchanged"
    assert backup(new, bot.ports).record["backup"]["name"].startswith("alpha_")


@pytest.mark.parametrize("at", range(9))
def test_a_rename_that_is_cut_off_is_run_again(bot, at):
    """Killed before each of its steps; the one that follows finishes it."""
    new = called(bot, "beta", backup_dir=place(bot, "elsewhere"), state_dir=place(bot, "records"))
    left = [at]

    def cut(_step):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1

    assert len(rename(new, bot.ports, former="alpha", dry_run=True).record["steps"]) == 9
    with pytest.raises(KeyboardInterrupt):
        rename(new, bot.with_steps(cut), former="alpha")
    rename(new, bot.ports, former="alpha")
    assert names(new, bot) == bot.made[::-1]
    assert all(item.good for item in LocalCatalog(new, bot.ports.clock).list())
    assert [item.label for item in LocalCatalog(new, bot.ports.clock).list() if item.pinned] == ["second"]
    assert configured_names(str(new.config_dir)) == ("beta",)
    assert not rename(new, bot.ports, former="alpha").changed


def test_a_site_under_the_new_name_before_is_mended(bot):
    """As an older version accepted it: both are configured, and both have made backups."""
    new = called(bot, "beta")
    install_configuration(new, renamed=True)
    own = backup(new, bot.ports, name="own").record["backup"]["name"]
    rename(new, bot.ports, former="alpha")
    assert set(names(new, bot)) == {own, *bot.made}
    catalog = LocalCatalog(new, bot.ports.clock)
    assert {item.label for item in catalog.list() if item.pinned} == {"own", "second"}
    assert configured_names(str(new.config_dir)) == ("beta",)


def test_what_cannot_be_renamed_is_refused(bot, make_bench):
    new = called(bot, "beta")
    with pytest.raises(UsageError, match="no application 'gamma' is configured"):
        rename(new, bot.ports, former="gamma")
    third = make_bench(BOT, app="third", root=str(bot.base / "third")).application
    install_configuration(third)
    with pytest.raises(ConfigurationError, match="is the root of the application alpha already"):
        rename(called(bot, "third"), bot.ports, former="third")
    elsewhere = place(bot, "elsewhere")
    Path(elsewhere).mkdir(mode=0o700)
    Path(elsewhere, bot.made[0]).write_bytes(b"of somebody else")
    with pytest.raises(ArchiveError, match="another backup of this name"):
        rename(called(bot, backup_dir=elsewhere), bot.ports)
    assert Path(elsewhere, bot.made[0]).read_bytes() == b"of somebody else"
    assert names(bot.application, bot) == bot.made[::-1]


def test_it_waits_for_nothing_and_changes_nothing_when_the_bot_is_at_work(bot, monkeypatch):
    state = Path(bot.application.application_state_dir)
    held = []

    def busy(*_arguments, **_options):
        held.append(True)
        raise KeyboardInterrupt

    with application_lock(state, operation="backup", clock=bot.ports.clock):
        monkeypatch.setattr(bot.ports.clock, "sleep", busy)
        with pytest.raises(KeyboardInterrupt):
            rename(called(bot, "beta"), bot.ports, former="alpha")
    assert held
    assert json.loads((bot.backups / f"{bot.made[0]}.json").read_text())["application"] == "alpha"
