# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A configured key encrypts everything, and the host's own key beside it opens what this host made."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.openpgp import keys_in
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import (
    parse_configuration,
    render_configuration,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ConfigurationError,
    EncryptionError,
    ExitStatus,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import runner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.backup_first import backup_first
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.installation import install_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.keys import Keys
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.rename import rename
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
KEY = "credentials/kalshi/prod/kalshi.pem"


def gpg(home: Path, *arguments: str) -> bytes:
    argv = ["gpg", "--batch", "--quiet", "--homedir", str(home), "--pinentry-mode", "loopback", "--passphrase", ""]
    return subprocess.run([*argv, *arguments], check=True, capture_output=True).stdout


class Person:
    """Somebody with a key pair, away from the host."""

    def __init__(self, place: Path, name: str) -> None:
        self.home = place / name
        self.home.mkdir(mode=0o700)
        gpg(self.home, "--quick-gen-key", f"{name} <{name}@example.com>", "future-default", "default", "never")
        self.public, self.secret = place / f"{name}.asc", place / f"{name}.secret.asc"
        self.public.write_bytes(gpg(self.home, "--armor", "--export"))
        self.secret.write_bytes(gpg(self.home, "--armor", "--export-secret-keys"))
        self.secret.chmod(0o600)


@pytest.fixture(scope="module")
def people() -> Iterator[dict[str, Person]]:
    place = Path(tempfile.mkdtemp(prefix="tk-"))  # gpg's agent wants a short path
    yield {name: Person(place, name) for name in ("operator", "successor")}
    for home in (path for path in place.iterdir() if path.is_dir()):
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No keyring of the account's own; and where gpg homes are made is empty again at the end."""
    (tmp_path / "home").mkdir(mode=0o700)
    monkeypatch.setattr(runner, "home_directory", lambda: str(tmp_path / "home"))
    made = tempfile.mkdtemp(prefix="tk-")
    monkeypatch.setattr(tempfile, "tempdir", made)
    yield
    assert os.listdir(made) == []
    os.rmdir(made)


@pytest.fixture
def host(make_bench: Any, people: dict[str, Person], temporary: None) -> Any:
    """A host as `site` leaves it, with the operator's public key."""
    return set_up(make_bench, gpg_recipients=(str(people["operator"].public),))


def set_up(make_bench: Any, **options: Any) -> Any:
    bench = make_bench(**options)
    bench.make_tree()
    bench.database().close()
    (bench.root / KEY).write_text("-----BEGIN PRIVATE KEY-----\n")
    install_application(bench.application, bench.ports)
    return bench


def set_encryption(bench: Any, **changes: Any) -> None:
    encryption = dataclasses.replace(bench.application.encryption, **changes)
    bench.application = dataclasses.replace(bench.application, encryption=encryption)


def set_profile(bench: Any, **changes: Any) -> None:
    profile = dataclasses.replace(bench.application.profile, **changes)
    bench.application = dataclasses.replace(bench.application, profile=profile)


def made(bench: Any, **options: Any) -> Path:
    return Path(backup(bench.application, bench.ports, **options).record["backup"]["path"])


def archives(bench: Any) -> list[str]:
    return sorted(path.name for path in bench.backups.glob("*.tar.*") if ".tar.gz" in path.name and is_archive(path))


def is_archive(path: Path) -> bool:
    return path.name.endswith((".tar.gz", ".tar.gz.gpg")) and not path.is_symlink()


class AnHourAgo(runner.SystemClock):
    """The clock of an earlier run."""

    def now(self) -> datetime:
        return super().now() - timedelta(hours=1)


@pytest.mark.parametrize("tier", ["daily", "weekly", "monthly", "manual"])
def test_hazard_b1_a_configured_key_encrypts_every_tier(host: Any, tier: str) -> None:
    assert made(host, tier=tier).name.endswith(".tar.gz.gpg")


def test_hazard_b1_safety_backups_are_encrypted_too(host: Any, people: dict[str, Person]) -> None:
    first = made(host)
    assert backup_first(host.application, host.ports).path.name.endswith("_before_deploy.tar.gz.gpg")
    (host.root / KEY).write_text("-----BEGIN OTHER KEY-----\n")
    done = restore(host.application, host.ports, reference=str(first))
    assert done.record["safety_backup"].endswith("_before_restore.tar.gz.gpg")
    assert (host.root / KEY).read_text() == "-----BEGIN PRIVATE KEY-----\n"
    restore(host.application, host.ports, reference="before_restore")
    assert (host.root / KEY).read_text() == "-----BEGIN OTHER KEY-----\n"
    assert [name for name in archives(host) if not name.endswith(".gpg")] == []
    # What the operator has opens each.
    for name in archives(host):
        assert gpg(people["operator"].home, "--decrypt", str(host.backups / name))[:2] == b"\x1f\x8b"


def test_the_host_key_is_the_hosts_alone(host: Any) -> None:
    secret, public = Path(host.application.host_secret_key), Path(host.application.host_public_key)
    assert (secret.stat().st_mode & 0o777, secret.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert keys_in(secret.read_bytes()).secret and not keys_in(public.read_bytes()).secret
    again = install_application(host.application, host.ports)
    assert not again.changed
    dumped = json.dumps([again.record, again.before, again.after]) + "\n".join(again.lines)
    assert "KEY BLOCK" not in dumped
    # What goes when only one half is there is made of the other: what is encrypted already can still be opened.
    before = secret.read_text()
    public.unlink()
    assert install_application(host.application, host.ports).changed
    assert secret.read_text() == before and keys_in(public.read_bytes()).public
    assert made(host).name.endswith(".gpg")
    assert restore(host.application, host.ports).record["state"] == "unchanged"


def test_a_dry_run_makes_no_key(make_bench: Any, people: dict[str, Person], temporary: None) -> None:
    bench = make_bench(gpg_recipients=(str(people["operator"].public),))
    planned = install_application(bench.application, bench.ports, dry_run=True)
    assert planned.changed and any("would make the host's own key" in line for line in planned.lines)
    assert not Path(bench.application.state_dir).exists()


def test_the_host_drills_verifies_and_restores_by_itself(host: Any) -> None:
    made(host)
    assert drill(host.application, host.ports).record["verdict"] == "passed"
    (checked,) = verify(host.application, host.ports, reference="all", deep=True).record["backups"]
    assert (checked["ok"], checked["level"], checked["notes"]) == (True, "deep", [])
    shutil.rmtree(host.root / "databases/accounts/kalshi/demo")
    restore(host.application, host.ports)
    assert host.rows() == 100


def test_a_host_that_shall_not_read_its_backups_loses_its_key(host: Any, people: dict[str, Person]) -> None:
    made(host)
    set_encryption(host, host_key=False)
    done = install_application(host.application, host.ports)
    assert done.changed and not Path(host.application.host_key_dir).exists()
    assert not install_application(host.application, host.ports).changed
    with pytest.raises(EncryptionError, match="it opens with operator") as refused:
        restore(host.application, host.ports)
    assert "--key FILE" in str(refused.value.hint)
    assert "no key was given" in drill(host.application, host.ports).record["problems"][0]
    (host.root / KEY).unlink()
    restore(host.application, host.ports, key_file=str(people["operator"].secret))
    assert (host.root / KEY).exists()
    # With that key or without, nobody is to find one here.
    assert not list(host.base.rglob("*secret*.asc"))


def test_latest_is_the_newest_that_this_host_can_read(host: Any, people: dict[str, Person], tmp_path: Path) -> None:
    now, host.ports = host.ports, dataclasses.replace(host.ports, clock=AnHourAgo())
    readable = made(host)
    host.ports = now
    os.rename(host.application.host_key_dir, tmp_path / "aside")
    host.database(rows=5).close()
    newer = made(host)
    os.rename(tmp_path / "aside", host.application.host_key_dir)
    listed = list_backups(host.application, host.ports)
    assert {item["name"]: item["opens_with"] for item in listed.record["backups"]} == {
        newer.name: ["operator"],
        readable.name: ["operator", "this host"],
    }
    assert any("opens with" in line for line in listed.lines)
    done = restore(host.application, host.ports, dry_run=True)
    assert done.record["backup"] == readable.name
    assert any(newer.name in text and "opens with operator" in text for text in host.notes), host.notes
    drilled = drill(host.application, host.ports).record
    assert drilled["backup"]["name"] == readable.name
    assert any(newer.name in text for text in drilled["notes"])
    away = made(host, host_key=False, output=str(host.base / "away"))
    assert Keys(host.application, host.ports).opened_by(away) == ("operator",)
    # With its key given the newest is meant.
    key = str(people["operator"].secret)
    assert restore(host.application, host.ports, dry_run=True, key_file=key).record["backup"] == newer.name
    with pytest.raises(EncryptionError, match="no secret key"):
        restore(host.application, host.ports, key_file=str(people["successor"].secret))


def test_a_restore_begins_only_where_what_it_replaces_can_be_kept(host: Any) -> None:
    first = made(host)
    (host.root / KEY).write_text("-----BEGIN OTHER KEY-----\n")
    set_encryption(host, recipients=("/nonexistent/operator.asc",))
    for dry_run in (True, False):
        with pytest.raises(EncryptionError, match="recipient"):
            backup(host.application, host.ports, dry_run=dry_run)
        with pytest.raises(EncryptionError, match="recipient"):
            restore(host.application, host.ports, reference=str(first), dry_run=dry_run)
    assert (host.root / KEY).read_text() == "-----BEGIN OTHER KEY-----\n"


def test_hazard_b1_a_secret_is_in_no_plain_archive_where_there_is_a_key(host: Any) -> None:
    with pytest.raises(ConfigurationError, match="credentials holds secrets"):
        backup(host.application, host.ports, encrypt=False)
    definition = {
        "extends": "kalshi",
        "name": "kalshi",
        "schedules": [{"tier": "daily", "calendar": "daily", "encrypt": False}],
    }
    bench = type(host)(host.base / "other", definition)
    with pytest.raises(ConfigurationError, match="credentials holds secrets") as refused:
        type(host)(host.base / "other", definition, gpg_recipients=("A" * 40,))
    assert refused.value.path == "schedules[0].encrypt"
    # Without a key, or without a secret, it is as it is written.
    assert bench.application.profile.schedules[0].encrypt is False
    plain = {**definition, "components": {"credentials": None}}
    bench = type(host)(host.base / "other", plain, gpg_recipients=host.application.encryption.recipients)
    bench.make_tree()
    assert made(bench, tier="daily").name.endswith(".tar.gz")
    assert made(bench, tier="manual").name.endswith(".tar.gz.gpg")


def test_what_an_earlier_version_wrote_is_no_refusal(host: Any) -> None:
    """It wrote its default, encrypt: false, into every schedule of every configuration."""
    document = json.loads(render_configuration(host.application))
    del document["application"]["encryption"]["host_key"]
    for schedule in document["profile"]["schedules"]:
        schedule.setdefault("encrypt", False)
    read = parse_configuration(json.dumps(document), path="kalshi.json")
    assert [item.encrypt for item in read.profile.schedules] == [None, True, None]
    assert read.encryption.host_key


def test_archives_of_an_earlier_version_stay_readable(host: Any, people: dict[str, Person]) -> None:
    """Plain ones, and one to the operator alone."""
    set_encryption(host, recipients=(), host_key=True)
    plain = made(host)
    assert plain.name.endswith(".tar.gz")
    set_encryption(host, recipients=(str(people["operator"].public),))
    assert restore(host.application, host.ports, reference=plain.name).record["state"] == "unchanged"
    listed = list_backups(host.application, host.ports).record["backups"]
    assert [item["opens_with"] for item in listed] == [["anybody"]]


def test_without_a_key_it_is_said_who_can_read_the_archives(make_bench: Any, tmp_path: Path) -> None:
    bench = set_up(make_bench)
    told = "archives with credentials are readable by whoever gets them"
    assert [text for text in bench.notes if told in text]
    checked = check_configuration(bench.application, bench.ports)
    assert checked.status == ExitStatus.DONE and told in checked.record["notes"][0]
    assert told in "\n".join(list_backups(bench.application, bench.ports).lines)
    made(bench)
    assert told in "\n".join(list_backups(bench.application, bench.ports).lines)


def test_config_check_names_what_nobody_sees_in_a_passphrase_file(make_bench: Any, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.touch(0o600)
    secret.write_bytes(b"correct horse\r\n")
    bench = set_up(make_bench)
    set_encryption(bench, passphrase_file=str(secret))
    checked = check_configuration(bench.application, bench.ports)
    assert [note for note in checked.record["notes"] if str(secret) in note and "a carriage return" in note]


def test_config_check_asks_for_every_key(host: Any, people: dict[str, Person]) -> None:
    done = check_configuration(host.application, host.ports)
    assert (done.status, done.record["problems"], done.record["notes"]) == (ExitStatus.DONE, [], [])
    keys = Path(host.application.config_dir) / "keys"
    (keys / "kalshi").mkdir(parents=True)
    shutil.copy(people["operator"].secret, keys / "kalshi/operator.asc")
    (problem,) = check_configuration(host.application, host.ports).record["problems"]
    assert "a secret key lies among the public ones" in problem and "shred -u" in problem
    (keys / "kalshi/operator.asc").unlink()
    set_encryption(host, recipients=(str(people["operator"].secret),))
    assert "holds a secret key" in check_configuration(host.application, host.ports).record["problems"][0]
    set_encryption(host, recipients=(str(people["operator"].public),))
    secret = Path(host.application.host_secret_key)
    secret.chmod(0o640)
    assert "can be read by others" in check_configuration(host.application, host.ports).record["problems"][0]
    secret.chmod(0o600)
    shutil.copy(people["successor"].secret, secret)
    assert "no secret key" in check_configuration(host.application, host.ports).record["problems"][0]
    secret.unlink()
    found = check_configuration(host.application, host.ports)
    assert (found.status, found.record["problems"]) == (ExitStatus.FINDINGS, [])
    assert "no key of its own yet" in found.record["warnings"][0]


def test_keys_that_nothing_names_any_more_are_removed(host: Any, people: dict[str, Person]) -> None:
    keys = Path(host.application.config_dir) / "keys"
    (keys / "kalshi").mkdir(parents=True)
    for name in ("kalshi/one.asc", "two.asc", "shared.asc", "unnamed.asc"):
        shutil.copy(people["operator"].public, keys / name)
    set_encryption(host, recipients=tuple(str(keys / name) for name in ("kalshi/one.asc", "two.asc", "shared.asc")))
    install_application(host.application, host.ports)
    twin = {"extends": "kalshi", "name": "second"}
    config_dir = str(host.application.config_dir)
    options = {"gpg_recipients": (str(keys / "shared.asc"),), "config_dir": config_dir}
    refused = type(host)(host.base, twin, **options)
    with pytest.raises(ConfigurationError, match="is the root of the application kalshi"):
        install_application(refused.application, host.ports)
    assert not Path(refused.application.host_key_dir).exists()
    other = type(host)(host.base / "other", twin, **options)
    install_application(other.application, host.ports)
    set_encryption(host, recipients=(str(keys / "two.asc"),))
    planned = install_application(host.application, host.ports, dry_run=True)
    assert planned.record["removed_keys"] == [str(keys / "kalshi/one.asc")] and (keys / "kalshi/one.asc").exists()
    assert install_application(host.application, host.ports).record["removed_keys"] == [str(keys / "kalshi/one.asc")]
    # The other application's, and what nobody has ever named, are not ours to remove.
    assert sorted(path.name for path in keys.rglob("*.asc")) == ["shared.asc", "two.asc", "unnamed.asc"]
    assert not install_application(host.application, host.ports).changed


def test_the_keys_go_along_with_a_new_name(host: Any) -> None:
    before = made(host)
    profile = dataclasses.replace(host.application.profile, name="renamed", archive_prefix="renamed")
    host.application = dataclasses.replace(host.application, name="renamed", profile=profile)
    assert rename(host.application, host.ports, former="kalshi").changed
    assert Path(host.application.host_secret_key).stat().st_mode & 0o777 == 0o600
    assert restore(host.application, host.ports, dry_run=True).record["backup"] == before.name
    assert not install_application(host.application, host.ports).changed
    assert not rename(host.application, host.ports).changed


def test_the_command_takes_a_key_for_one_restore(host: Any, people: dict[str, Person]) -> None:
    set_encryption(host, host_key=False)
    install_application(host.application, host.ports)
    made(host)
    (host.root / KEY).unlink()
    out = io.StringIO()
    words = ["--json", "restore", "latest", "--key", str(people["operator"].secret)]
    config_dir = str(host.application.config_dir)
    assert cli.main(words, config_dir=config_dir, stdout=out, stderr=io.StringIO()) == 0
    assert json.loads(out.getvalue())["record"]["state"] == "restored"
    assert (host.root / KEY).exists()
    to = host.base / "look"
    restore(host.application, host.ports, to=str(to), key_file=str(people["operator"].secret))
    assert (to / KEY).exists()
