# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot that is taken over and wants a file of root's in its own backup."""

from __future__ import annotations

import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CaptureError, TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import (
    assemble,
    prove,
    tree_reader,
    write_archive,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup

from .conftest import BOT, FILLS, SECRET, Victim, as_bot, needs_root

pytestmark = needs_root


def contents(path: str) -> bytes:
    with tarfile.open(path) as archive:
        return b"".join(archive.extractfile(item).read() for item in archive if item.isfile())


def test_an_ordinary_backup_is_made(victim: Victim) -> None:
    made = backup(victim.application, victim.ports).record["backup"]
    assert made["good"]
    with tarfile.open(made["path"]) as archive:
        assert FILLS in archive.getnames()
    assert os.stat(made["path"]).st_uid == 0
    assert list((victim.state / "scratch").iterdir()) == []


def test_a_directory_that_is_swapped_while_it_is_read_shows_nothing_of_roots(victim: Victim, monkeypatch) -> None:
    preferences = victim.root / "preferences"
    as_bot(lambda: (preferences / "shadow").write_text("{}"))
    real, swapped = assemble._Assembly._capture, victim.base / "bot" / "swapped"

    def capture(self, found, context):
        if found.path == "preferences/shadow" and not swapped.exists():
            swapped.touch()  # in the reader, which has the bot's account itself
            preferences.rename(preferences.with_name("gone"))
            preferences.symlink_to(victim.secret)
        return real(self, found, context)

    monkeypatch.setattr(assemble._Assembly, "_capture", capture)
    monkeypatch.setattr("ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.found.SHORT_WAYS", {})
    with pytest.raises(TradekeepError, match="permission denied"):
        backup(victim.application, victim.ports)
    assert swapped.exists()
    assert not list(victim.backups.glob("*.tar.gz"))
    assert victim.is_untouched()


def test_the_reader_is_the_owner_and_nothing_else(victim: Victim, monkeypatch) -> None:
    told = victim.base / "told"
    told.mkdir()
    told.chmod(0o777)
    real = assemble._Assembly.add_bare

    def tell(self, found):
        status = Path("/proc/self/status").read_text()
        lines = [
            line
            for line in status.splitlines()
            if line.split(":")[0] in ("Uid", "Gid", "Groups", "CapPrm", "NoNewPrivs")
        ]
        names = {}
        for name, path in (("shadow", victim.secret / "shadow"), ("backups", victim.backups), ("state", victim.state)):
            try:
                os.listdir(path) if path.is_dir() else path.read_bytes()
                names[name] = "read"
            except PermissionError:
                names[name] = "refused"
        (told / "reader").write_text("\n".join([*lines, str(names), str(sorted(os.listdir("/proc/self/fd")))]))
        return real(self, found)

    monkeypatch.setattr(assemble._Assembly, "add_bare", tell)
    backup(victim.application, victim.ports)
    said = (told / "reader").read_text()
    assert f"Uid:\t{BOT}\t{BOT}\t{BOT}\t{BOT}" in said
    assert f"Gid:\t{BOT}\t{BOT}\t{BOT}\t{BOT}" in said
    assert f"Groups:\t{BOT} " in said
    assert "CapPrm:\t0000000000000000" in said
    assert "NoNewPrivs:\t1" in said
    assert said.count("refused") == 3


def test_the_writer_has_no_capability(victim: Victim, monkeypatch) -> None:
    told, real = victim.base / "writer", write_archive._Sink.write

    def tell(self, data):
        told.write_text(Path("/proc/self/status").read_text())
        return real(self, data)

    monkeypatch.setattr(write_archive._Sink, "write", tell)
    backup(victim.application, victim.ports)
    said = told.read_text()
    assert "CapPrm:\t0000000000000000" in said
    assert "CapEff:\t0000000000000000" in said
    assert "NoNewPrivs:\t1" in said


def test_what_the_owner_cannot_read_is_named_and_left_out(victim: Victim) -> None:
    stranger = victim.root / "preferences" / "of_root.json"
    stranger.write_bytes(SECRET)
    stranger.chmod(0o600)
    done = backup(victim.application, victim.ports).record
    assert done["warnings"] == ["preferences/of_root.json: may not be read by the owner of the data, left out"]
    assert SECRET not in contents(done["backup"]["path"])


def test_a_symlink_that_the_profile_follows_shows_nothing_of_roots(victim: Victim) -> None:
    place = victim.base / "bot" / "disk"
    as_bot(place.mkdir)
    (place / "of_root.json").write_bytes(SECRET)
    (place / "of_root.json").chmod(0o600)
    as_bot(lambda: (place / "own.json").write_text('{"own": 1}'))
    links = victim.root / "preferences"
    as_bot(
        lambda: (
            (place / "out").symlink_to(victim.secret),
            *((links / name).symlink_to(place / name) for name in ("of_root.json", "own.json", "out")),
        )
    )
    profile = victim.application.profile
    components = tuple(replace(item, follow_links=(str(place),)) for item in profile.components)
    application = replace(victim.application, profile=replace(profile, components=components))
    done = backup(application, victim.ports).record
    held = contents(done["backup"]["path"])
    assert b'{"own": 1}' in held and SECRET not in held
    assert any(text.startswith("preferences/of_root.json: may not be read") for text in done["warnings"])
    assert any(text.startswith("preferences/out: a symlink; what it leads to") for text in done["warnings"])


@pytest.mark.parametrize("path", [FILLS, "credentials/kalshi/prod/kalshi.pem"])
def test_what_matters_and_cannot_be_read_fails_the_backup(victim: Victim, path: str) -> None:
    matters = victim.root / path
    matters.write_bytes(matters.read_bytes() if matters.exists() else b"key")
    os.chown(matters, 0, 0)
    matters.chmod(0o600)
    with pytest.raises(CaptureError, match="may not be read by the owner of the data"):
        backup(victim.application, victim.ports)


def test_a_directory_that_cannot_be_read_fails_the_backup(victim: Victim) -> None:
    hidden = victim.root / "preferences" / "hidden"
    hidden.mkdir(mode=0o700)
    with pytest.raises(CaptureError, match="may not be read by the owner of the data"):
        backup(victim.application, victim.ports)


def test_a_large_archive_is_read_back_while_it_is_written(victim: Victim, monkeypatch) -> None:
    """By a process of the owner's, which hears of entries before they come; else all of it is read once more."""

    def never(*_given: object, **_options: object) -> None:
        raise AssertionError("the archive is read a second time")

    monkeypatch.setattr(write_archive, "FOLLOWED_FILES", 0)
    monkeypatch.setattr(prove, "open_container", never)
    many = victim.root / "preferences" / "many"
    as_bot(lambda: (many.mkdir(), [(many / f"{n}.json").write_text('{"a": 1}') for n in range(400)]))
    as_bot(lambda: (many / "large.bin").write_bytes(os.urandom(5 << 20)))
    made = backup(victim.application, victim.ports).record["backup"]
    assert made["good"]


def test_what_the_manifest_will_say_is_sent_before_the_bytes_that_say_it() -> None:
    sent: list[tuple[bytes, bytes]] = []

    class Recorder:
        def send(self, kind: bytes, payload: bytes) -> None:
            sent.append((kind, payload))

    sink = tree_reader._FrameSink(Recorder())
    sink.tell(b"one line")
    sink.tell(b", another")
    sink.write(b"bytes")
    assert sent == [(b"t", b"one line, another"), (b"d", b"bytes")]
