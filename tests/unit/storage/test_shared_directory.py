# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Two applications with one backup directory, of one prefix or of two: neither sees or touches what is the other's."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import PurePosixPath

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Application, Profile
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError, UsageError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage import local
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.names import backup_name, parse_any_name

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


class SetClock:
    moment = NOON

    def now(self):
        return self.moment

    def monotonic(self):
        return 0.0

    def sleep(self, seconds):
        pass


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def catalog_of(tmp_path, clock):
    notes = []

    def make(name, prefix="backup"):
        names = ("root", "config_dir", "bin_dir")
        places = {key: PurePosixPath(tmp_path / name / key) for key in names}
        application = Application(
            name=name,
            profile=Profile(name, archive_prefix=prefix),
            owner="x",
            group="x",
            backup_dir=PurePosixPath(tmp_path / "backups"),
            state_dir=PurePosixPath(tmp_path / "state"),
            **places,
        )
        made = LocalCatalog(application, clock, note=notes.append)
        made.notes = notes
        made.check_directory()
        return made

    return make


def publish(catalog, moment=NOON, content=b"archive", prefix=None, **facts):
    final = backup_name(prefix or catalog.prefix, moment)
    temporary = catalog.temporary(final)
    temporary.write_bytes(content)
    sidecar = {
        "application": catalog.application.name,
        "profile": catalog.application.profile.name,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "verified": {"level": "entries", "at": "2026-03-01T12:00:00Z"},
        **facts,
    }
    return catalog.publish(temporary, final, sidecar)


def link_of(catalog, stem):
    path = catalog.directory / f"{stem}.tar.gz"
    return os.readlink(path) if path.is_symlink() else None


def test_each_has_its_own_backups_and_its_own_latest_link(catalog_of):
    first, second = catalog_of("alpha"), catalog_of("beta")
    of_first = publish(first)
    of_second = publish(second, NOON + timedelta(minutes=1))
    for catalog, own, other in ((first, of_first, of_second), (second, of_second, of_first)):
        assert [item.name for item in catalog.list()] == [own.name]
        assert catalog.find("latest").name == own.name
        with pytest.raises(UsageError, match=f"is a backup of the application {other.application}") as caught:
            catalog.find(other.name)
        assert caught.value.hint == f"choose --app {other.application}"
    assert link_of(first, "latest_backup") == of_first.name
    assert link_of(first, "latest_backup_beta") == of_second.name
    newer = publish(first, NOON + timedelta(minutes=2))
    assert link_of(first, "latest_backup") == newer.name
    assert link_of(first, "latest_backup_beta") == of_second.name


def test_the_link_of_another_stays_when_there_is_nothing_left_to_point_to(catalog_of):
    first, second = catalog_of("alpha"), catalog_of("beta")
    of_first = publish(first)
    of_second = publish(second, NOON + timedelta(minutes=1))
    second.remove(of_second)
    second.refresh_latest()
    second.sweep_leftovers()
    assert link_of(first, "latest_backup") == of_first.name
    assert link_of(first, "latest_backup_beta") is None
    assert [item.name for item in first.list()] == [of_first.name]


def test_a_directory_from_before_gives_each_its_link(catalog_of):
    """Until now all applications of a host had one link, which followed whoever was the last."""
    first, second = catalog_of("alpha"), catalog_of("beta")
    of_first = publish(first)
    of_second = publish(second, NOON + timedelta(minutes=1))
    (first.directory / "latest_backup_beta.tar.gz").unlink()
    (first.directory / "latest_backup.tar.gz").unlink()
    (first.directory / "latest_backup.tar.gz").symlink_to(of_second.name)
    first.refresh_latest()
    second.refresh_latest()
    assert link_of(first, "latest_backup") == of_second.name
    assert link_of(first, "latest_backup_alpha") == of_first.name
    assert link_of(first, "latest_backup_beta") is None


def test_sidecars_that_another_is_about_to_use_are_not_swept(catalog_of, monkeypatch):
    first, second = catalog_of("alpha"), catalog_of("beta")
    give_name = local.give_name

    def swept_meanwhile(temporary, final):
        assert first.sweep_leftovers() == ()
        return give_name(temporary, final)

    monkeypatch.setattr(local, "give_name", swept_meanwhile)
    assert publish(second).good


def test_a_name_of_the_same_second_goes_to_one_of_them(catalog_of, monkeypatch):
    """Two applications of one prefix, each under its own lock: what one has written stays its own."""
    first, second = catalog_of("alpha"), catalog_of("beta")
    made = []
    taken = first._taken

    def overtaken(parsed):
        answer = taken(parsed)
        if not made:
            made.append(publish(second, content=b"of beta"))
        return answer

    monkeypatch.setattr(first, "_taken", overtaken)
    own = publish(first, content=b"of alpha")
    assert own.good
    assert own.path.read_bytes() == b"of alpha"
    assert own.moment == NOON + timedelta(seconds=1)
    (of_second,) = second.list()
    assert of_second.good
    assert of_second.path.read_bytes() == b"of beta"


def test_backups_stay_in_sight_when_the_prefix_changes(catalog_of):
    """Profiles of one's own were called ``backup`` until their application's name became their prefix."""
    before, after, other = catalog_of("alpha", "backup"), catalog_of("alpha", "alpha"), catalog_of("beta", "backup")
    old = publish(before, NOON - timedelta(days=1), name=None)
    publish(other, NOON - timedelta(hours=3))
    assert [item.name for item in after.list()] == [old.name]
    assert after.find("latest").moment == NOON - timedelta(days=1)
    new = publish(after)
    assert [item.name for item in after.list()] == [new.name, old.name]
    assert after.find(old.name).good
    assert link_of(after, "latest_backup") == new.name
    after.remove(after.find(old.name))
    assert not list(after.directory.glob(f"{old.name}*"))


def test_without_a_sidecar_the_prefix_decides(catalog_of):
    first, second = catalog_of("alpha", "alpha"), catalog_of("beta", "beta")
    made = publish(first)
    (first.directory / f"{made.name}.json").unlink()
    assert "no .json sidecar" in first.list()[0].problem
    assert second.list() == ()


@pytest.mark.parametrize(
    ("filename", "label"),
    [
        ("a_20260301_120000.tar.gz", None),
        ("a_b_20260301_120000_x.tar.gz.gpg", "x"),
        ("a_20260301_120000_20260401_120000.tar.zst", "20260401_120000"),
    ],
)
def test_the_first_moment_of_a_name_counts(filename, label):
    parsed = parse_any_name(filename)
    assert (parsed.moment, parsed.name) == (NOON, label)


def test_latest_passes_over_what_is_dated_in_the_future(catalog_of, clock):
    catalog = catalog_of("alpha")
    publish(catalog, NOON - timedelta(days=1))
    clock.moment = NOON + timedelta(days=400)
    wrong = publish(catalog, clock.moment)
    clock.moment = NOON
    right = publish(catalog, NOON)
    catalog.notes.clear()
    assert catalog.find("latest").name == right.name
    (note,) = catalog.notes
    assert note.startswith(f"passed over, as dated in the future: {wrong.name}; the clock was wrong then")
    assert link_of(catalog, "latest_backup") == right.name
    assert catalog.find(wrong.name).good, "it is there for whoever names it"
    # Corrected by a second or two, as clocks are after each start.
    clock.moment = NOON - timedelta(seconds=2)
    assert catalog.find("latest").name == right.name


def test_where_all_are_dated_in_the_future_the_newest_is_better_than_none(catalog_of, clock):
    catalog = catalog_of("alpha")
    publish(catalog, NOON - timedelta(days=1))
    made = publish(catalog)
    clock.moment = datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert catalog.find("latest").name == made.name
    assert "is the clock of this host right?" in catalog.notes[-1]


def test_results_that_were_lost_on_a_night_with_a_wrong_clock_are_found_again(catalog_of, clock):
    catalog = catalog_of("alpha")
    made = publish(catalog)
    clock.moment = NOON + timedelta(days=400)
    catalog.records.path.parent.mkdir(parents=True, exist_ok=True)
    catalog.records.path.write_text("{")
    catalog.records.set(last_prune=None)
    assert json.loads(catalog.records.path.read_text())["lost"].startswith("2027")
    clock.moment = NOON + timedelta(hours=1)
    assert [item.name for item in catalog.unproven()] == [made.name]
    catalog.record_verified(made, "entries", clock.moment, True)
    assert catalog.unproven() == ()
    with pytest.raises(TradekeepError):
        catalog.find("nothing")
