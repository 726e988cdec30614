# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What is no source, or no source for this application, stops a migration before anything is written."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus, TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.formatting import output_line
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate import (
    origin_directory,
    preflight,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.credentials import (
    credential_problem,
)
from operations_migrate.servers import FILLS, PEM, listing, pem

BOT = {
    "name": "other_bot",
    "root": "/opt/other",
    "owner": "bot",
    "components": {"ledger": {"paths": ["ledger"], "directories": ["ledger"]}},
}


def refusal(new: Any, source: Path, **options: Any) -> str:
    """The one line of an error, after which everything is as it was."""
    before = listing(new.base)
    with pytest.raises(TradekeepError) as caught:
        new.migrate(source, **options)
    # The lock file and the empty directory around it are all that a run that was refused may leave.
    after = {path: seen for path, seen in listing(new.base).items() if path != "state/kalshi/lock"}
    assert after == {path: seen for path, seen in before.items() if path != "state/kalshi/lock"}
    return str(caught.value)


def stopped(new: Any, source: Path, **options: Any) -> list[str]:
    """What stood against a migration that was planned and not carried out."""
    before = listing(new.root)
    done = new.migrate(source, **options)
    assert (done.status, done.changed, done.record["state"]) == (ExitStatus.FAILED, False, "refused")
    assert listing(new.root) == before
    assert new.backups == []
    assert not (new.state / "migrations").exists()
    return list(done.record["against"])


def test_a_source_that_is_a_symlink(old: Any, new: Any, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(old.root)
    assert "the source is a symlink" in refusal(new, tmp_path / "link", force=True)
    (tmp_path / "archive.tar.gz").symlink_to(old.back_up())
    assert "the source is a symlink" in refusal(new, tmp_path / "archive.tar.gz")


def test_a_source_that_is_not_there_empty_or_neither(new: Any, tmp_path: Path) -> None:
    assert "there is no such source" in refusal(new, tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "the source is empty" in refusal(new, tmp_path / "empty")
    os.mkfifo(tmp_path / "fifo")
    assert "neither a directory nor an archive" in refusal(new, tmp_path / "fifo")


def test_a_source_that_is_the_target_in_it_or_around_it(new: Any) -> None:
    new.database().close()
    assert "is the live data itself" in refusal(new, new.root, force=True)
    assert "is the live data itself" in refusal(new, new.root / "." / "state" / "..", force=True)
    assert "lies inside the live data" in refusal(new, new.root / "preferences", force=True)
    assert "contains the live data" in refusal(new, new.base, force=True)


def test_a_source_of_another_profile(old: Any, new: Any, make_server: Callable[..., Any], tmp_path: Path) -> None:
    other = make_server("other", BOT)
    other.write("ledger/a.csv", "1,2\n")
    assert "holds nothing of the profile kalshi" in refusal(new, other.root, force=True)
    archive = other.back_up()
    assert "is of the profile other_bot" in refusal(new, archive, force=True)
    with tarfile.open(tmp_path / "foreign.tar.gz", "w:gz") as made:
        made.add(other.root, arcname="other")
    assert "holds nothing of the profile kalshi" in refusal(new, tmp_path / "foreign.tar.gz", force=True)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    with tarfile.open(archive) as made:
        made.extractall(unpacked, filter="data")
    shutil.copytree(old.root / "state", unpacked / "state")
    assert "is of the profile other_bot" in refusal(new, unpacked, force=True)


def test_a_source_that_holds_several(old: Any, new: Any, tmp_path: Path) -> None:
    for name in ("monday", "tuesday"):
        shutil.copytree(old.root, tmp_path / "several" / name)
    assert "holds several: monday and tuesday" in refusal(new, tmp_path / "several")
    assert new.migrate(tmp_path / "several/tuesday").changed


def test_a_newer_manifest(old: Any, new: Any, tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    with tarfile.open(old.back_up()) as made:
        made.extractall(unpacked, filter="data")
    manifest = unpacked / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"tradekeep_manifest":1', '"tradekeep_manifest":2', 1))
    assert "has format 2, made by a newer tradekeep" in refusal(new, unpacked, force=True)
    with tarfile.open(tmp_path / "newer.tar.gz", "w:gz") as made:
        made.pax_headers = {}
        for path in sorted(unpacked.rglob("*")):
            if path.name != "MANIFEST.json":
                made.add(path, arcname=str(path.relative_to(unpacked)), recursive=False)
        made.add(manifest, arcname="MANIFEST.json")
    newer = refusal(new, tmp_path / "newer.tar.gz", force=True)
    assert "newer tradekeep" in newer


@pytest.mark.parametrize("where", ["notes", "preferences"])
def test_sockets_and_fifos_of_a_live_source(old: Any, new: Any, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (old.root / where).mkdir(exist_ok=True)
    monkeypatch.chdir(old.root / where)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        os.mkfifo("f")
        if where == "notes":
            assert new.migrate(old.root).record["plan"]["left"] == ["notes/"]
            return
        against = stopped(new, old.root)
        assert f"{where}/f: refused, a socket, FIFO or device" in against
        assert f"{where}/s: refused, a socket, FIFO or device" in against
        done = new.migrate(old.root, force=True)
    assert done.record["state"] == "migrated"
    assert not (new.root / where / "s").exists()
    assert done.record["plan"]["refused"][0]["path"] == f"{where}/f"


def test_setuid_files_links_out_and_hostile_names_never_arrive(old: Any, new: Any) -> None:
    old.write("preferences/tool", "#!/bin/sh\n").chmod(0o4755)
    (old.root / "preferences/out").symlink_to("../../../etc")
    old.write("preferences/a\nb", "x")
    old.write("preferences/\u202egpj.exe", "x")
    against = stopped(new, old.root)
    assert "preferences/tool: refused, setuid, setgid or sticky" in against
    assert "preferences/out: refused, a symlink that leads out of the data" in against
    assert "preferences/a\nb: refused, control characters in its name" in against
    done = new.migrate(old.root, force=True)
    assert done.record["state"] == "migrated"
    assert sorted(os.listdir(new.root / "preferences")) == ["own.json", "system", "trading", "ui"]
    assert new.migrate(old.root).record["state"] == "unchanged"


def test_a_name_cannot_forge_a_line(old: Any, new: Any) -> None:
    old.write("preferences/a\nagainst it: nothing", "x")
    old.write("notes\n\x1b[2J", "x")
    lines = new.migrate(old.root, dry_run=True).lines
    assert any("\nagainst it: nothing" in line for line in lines), "escaped where it is shown, and not before"
    shown = "\n".join(map(output_line, lines)).split("\n")
    assert "against it: nothing" not in [line.strip() for line in shown]
    assert all(line.isprintable() for line in shown)


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
@pytest.mark.once
def test_an_encrypted_archive_needs_its_passphrase(make_server: Callable[..., Any], new: Any, tmp_path: Path) -> None:
    words = {"right": "correct horse\n", "wrong": "battery staple\n"}
    for name, content in words.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    sealed = make_server("sealed", passphrase_file=str(tmp_path / "right"))
    sealed.database(rows=12).close()
    archive = sealed.back_up(encrypt=True)
    for options in ({}, {"passphrase_file": str(tmp_path / "wrong")}, {"passphrase_file": str(tmp_path / "none")}):
        with pytest.raises(TradekeepError):
            new.migrate(archive, force=True, **options)
    assert not (new.root / FILLS).exists()
    done = new.migrate(archive, passphrase_file=str(tmp_path / "right"))
    assert (done.record["state"], done.record["source"]["encrypted"], new.rows()) == ("migrated", True, 12)


def test_a_hostile_archive_is_refused_whole(new: Any, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "hostile.tar.gz", "w:gz") as made:
        made.addfile(tarfile.TarInfo("data/state/a.json"))
        made.addfile(tarfile.TarInfo("data/../../escape"))
    assert "escape" in refusal(new, tmp_path / "hostile.tar.gz", force=True)
    assert not (tmp_path / "escape").exists()


def test_a_damaged_archive_and_one_that_is_not_what_its_checksum_says(old: Any, new: Any, tmp_path: Path) -> None:
    archive = old.back_up()
    cut = tmp_path / archive.name
    cut.write_bytes(archive.read_bytes()[:-2000])
    refusal(new, cut, force=True)
    whole = gzip.decompress(archive.read_bytes())
    archive.write_bytes(gzip.compress(whole, mtime=7))
    assert "not what its .sha256 says" in refusal(new, archive, force=True)


def test_a_part_of_the_source_that_is_a_symlink(old: Any, new: Any, tmp_path: Path) -> None:
    (old.root / "databases").rename(tmp_path / "elsewhere")
    (old.root / "databases").symlink_to(tmp_path / "elsewhere")
    assert "a part of the data is a symlink" in refusal(new, old.root, force=True)


def test_a_damaged_database_in_the_source(old: Any, new: Any) -> None:
    path = old.root / FILLS
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)
    assert "cannot be migrated" in refusal(new, old.root, force=True)


def test_a_file_that_changes_all_the_time_is_never_taken_torn(
    old: Any, new: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old.write("preferences/busy.bin", b"a" * (9 << 20))
    read = origin_directory._copy
    torn: list[str] = []

    def while_written(stream: Any, size: int, staged: Any) -> Any:
        found = read(stream, size, staged)
        if size == 9 << 20 and len(torn) < 2:
            torn.append(found[0])
            with open(path, "r+b") as file:
                file.write(b"%020d" % time.monotonic_ns())
        return found

    monkeypatch.setattr(origin_directory, "_copy", while_written)
    done = new.migrate(old.root)
    assert torn
    assert (new.root / "preferences/busy.bin").read_bytes() == path.read_bytes()
    (change,) = [item for item in done.record["changes"] if item["path"] == "preferences/busy.bin"]
    assert change["after"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_is_removed_while_it_is_migrated(old: Any, new: Any) -> None:
    def remove(step: str) -> None:
        if step == "stage":
            (old.root / "preferences/own.json").unlink()

    with pytest.raises(TradekeepError, match="was removed from the source while it was migrated"):
        new.migrate(old.root, step=remove)
    assert not (new.root / FILLS).exists()


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        (PEM, b"", "is empty"),
        (PEM, b" \n", "is empty"),
        (PEM, b"not a key\n", "is no PEM"),
        (PEM, pem()[:-40], "without its END"),
        (PEM, pem("SECRET SAUCE"), "PEM of no known kind: SECRET SAUCE"),
        (PEM, pem(content=b"\x30\x82\x01\x00" + bytes(100)), "cut off or something else"),
        (PEM, pem().replace(b"AAAA", b"AA*A", 1), "is not base64"),
        (PEM, pem().replace(b"END RSA", b"END DSA"), "ends as DSA PRIVATE KEY"),
        (PEM, pem("OPENSSH PRIVATE KEY"), "is no OPENSSH PRIVATE KEY"),
        ("credentials/other_apis/key.json", b'{"key": ', "is no JSON document"),
    ],
)
def test_credentials_that_cannot_be_what_they_are_taken_for(
    old: Any, new: Any, path: str, content: bytes, said: str
) -> None:
    old.write(path, content)
    for source in (old.root, old.back_up()):
        (line,) = stopped(new, source)
        assert line.startswith(f"credentials: {path}: ")
        assert said in line
    assert new.migrate(old.root, force=True).record["state"] == "migrated"


@pytest.mark.parametrize(
    "content",
    [
        pem(),
        pem("PRIVATE KEY"),
        pem("CERTIFICATE") + pem("CERTIFICATE"),
        pem("OPENSSH PRIVATE KEY", b"openssh-key-v1\0" + bytes(40)),
        pem().replace(b"KEY-----\n", b"KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1),
        pem().replace(b"\n", b"\r\n"),
    ],
)
def test_keys_that_are_well_formed(content: bytes) -> None:
    assert credential_problem("credentials/a.pem", content) is None
    assert credential_problem("credentials/kalshi-auth.txt", b"email:x\nkey:y\n") is None
    assert credential_problem("credentials/.gitkeep", b"") is None
    assert credential_problem("credentials/a.json", b'\xef\xbb\xbf{"key": 1}') is None


def test_files_from_the_future(old: Any, new: Any) -> None:
    later = time.time() + 3 * 86400
    os.utime(old.root / "preferences/own.json", (later, later))
    (line,) = stopped(new, old.root)
    assert line.startswith("clock: preferences/own.json is dated 2 d 23 h in the future")
    assert new.migrate(old.root, force=True).record["state"] == "migrated"


def test_a_clock_that_is_long_past(old: Any, new: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_BUILT", preflight._BUILT.replace(year=2999))
    assert "which is long past" in stopped(new, old.root, force=True)[0]


@pytest.mark.parametrize("bytes_lack", [True, False])
def test_a_target_without_room(old: Any, new: Any, monkeypatch: pytest.MonkeyPatch, bytes_lack: bool) -> None:
    space = preflight.space

    def little(path: Any) -> Any:
        found = space(path)
        return type(found)(1000, found.inodes_free) if bytes_lack else type(found)(found.bytes_free, 3)

    monkeypatch.setattr(preflight, "space", little)
    (line,) = stopped(new, old.root, force=True)
    assert line.startswith("space: ")


def test_a_host_whose_configuration_was_not_recorded(old: Any, new: Any) -> None:
    Path(new.application.config_file).unlink()
    assert stopped(new, old.root, force=True)[0].startswith("configuration: ")


@pytest.mark.parametrize(("command", "said"), [("exit 3", "exit status 3: no key"), ("sleep 60", "did not end within")])
def test_a_declared_check_that_fails(old: Any, make_server: Callable[..., Any], command: str, said: str) -> None:
    checks = [{"command": ["sh", "-c", f"echo no key; {command}"], "timeout_seconds": 1}]
    new = make_server("new", {"extends": "kalshi", "name": "kalshi", "migrate": {"checks": checks}})
    (line,) = stopped(new, old.root, force=True)
    assert line.startswith("checks: sh -c")
    assert said in line
    assert json.dumps(new.migrate(old.root, dry_run=True).record)


def test_hazard_e_a_bot_that_still_writes_the_source_is_not_started_a_second_time(old: Any, new: Any) -> None:
    script = f"import sys; f = open({str(old.root / 'state/live.log')!r}, 'a'); print(1, flush=True); sys.stdin.read()"
    bot = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert bot.stdout is not None
    try:
        bot.stdout.readline()
        (line,) = stopped(new, old.root, force=True, start=True)
        assert line.startswith("one bot: ")
        assert f"(process {bot.pid}) writes" in line
        # Where nothing of it runs on this host, and nothing is started, copying from a live bot is no harm.
        assert new.migrate(old.root).record["state"] == "migrated"
    finally:
        bot.communicate()


@pytest.mark.root
def test_files_of_unknown_owners_belong_to_the_application(
    old: Any, make_server: Callable[..., Any], tmp_path: Path
) -> None:
    profile = {"extends": "kalshi", "name": "kalshi", "services": []}
    for path in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        path.chmod(path.stat().st_mode | 0o055)  # the account can reach its data
    new = make_server("new", profile, owner="nobody", group="nogroup", become=True)
    for path in [old.root, *old.root.rglob("*")]:
        os.chown(path, 54321, 54321)
    assert new.migrate(old.root).record["state"] == "migrated"
    assert {path.owner() for path in [new.root / FILLS, new.root / PEM, *new.root.rglob("*.json")]} == {"nobody"}
