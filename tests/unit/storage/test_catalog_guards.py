# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""HAZARDS B1 and B2 in the catalog, one guard at a time."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from datetime import datetime, timezone
from pathlib import PurePosixPath

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Application, Profile
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
NAME = "user_data_20260301_120000.tar.gz"


class FixedClock:
    def now(self):
        return NOON

    def monotonic(self):
        return 0.0

    def sleep(self, seconds):
        pass


@pytest.fixture
def catalog(tmp_path):
    names = ("root", "backup_dir", "config_dir", "state_dir", "bin_dir")
    places = {name: PurePosixPath(tmp_path / name) for name in names}
    profile = Profile("bot", archive_prefix="user_data")
    made = LocalCatalog(Application(name="bot", profile=profile, owner="x", group="x", **places), FixedClock())
    made.check_directory()
    return made


def publish(catalog, content=b"archive"):
    temporary = catalog.temporary(NAME)
    temporary.write_bytes(content)
    facts = {
        "application": "bot",
        "created": "2026-03-01T12:00:00Z",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "verified": {"level": "entries"},
    }
    return catalog.publish(temporary, NAME, facts)


def test_hazard_b1_a_name_that_is_taken_meanwhile_is_left_alone(catalog, monkeypatch):
    """Somebody else put a file there after the catalog had looked."""
    other = catalog.directory / NAME
    once = [True]

    def overtaken(real):
        def call(source, target, **options):
            if once and str(target) == str(other):
                once.clear()
                other.write_bytes(b"of somebody else")
            real(source, target, **options)

        return call

    for name in ("link", "rename", "replace"):
        monkeypatch.setattr(os, name, overtaken(getattr(os, name)))
    made = publish(catalog)
    assert not once
    assert other.read_bytes() == b"of somebody else"
    assert made.path != other
    assert made.path.read_bytes() == b"archive"


def test_hazard_b1_a_directory_that_was_opened_up_is_closed_again(catalog):
    catalog.directory.chmod(0o755)
    publish(catalog)
    assert stat.S_IMODE(catalog.directory.stat().st_mode) == 0o700


def test_hazard_b2_a_sidecar_of_another_archive_is_told(catalog):
    made = publish(catalog)
    checksum = catalog.directory / f"{made.name}.sha256"
    checksum.write_text(checksum.read_text().replace(made.name, "user_data_20260101_000000.tar.gz"))
    assert "does not name this archive" in catalog.list()[0].problem
    assert not catalog.list()[0].good


def test_hazard_b2_two_sidecars_that_disagree_are_told(catalog):
    made = publish(catalog)
    facts = catalog.directory / f"{made.name}.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "sha256": "0" * 64}))
    assert "name different checksums" in catalog.list()[0].problem
    assert not catalog.list()[0].good
