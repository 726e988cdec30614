# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the units of backups, verifications and drills show of a host, and what is kept from a deploy's.

tests/attacks/test_sandbox.py runs them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import (
    Application,
    Encryption,
    ServiceManager,
    Services,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.unit_confinement import confined
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.unit_files import render_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.unit_sight import sandbox_root
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.units import install_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed, NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profiles import BUILT_IN

JOBS = ("tradekeep-backup-", "tradekeep-verify-", "tradekeep-drill-")
FINGERPRINT = "A" * 40
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "at home": {"root": "/home/bot/data", "backup_dir": "/home/backups"},
    "key file": {"gpg_recipients": ("/etc/tradekeep/keys/operator.asc",)},
    "keyring": {"gpg_recipients": (FINGERPRINT,)},
    "passphrase": {"passphrase_file": "/root/passphrase"},
}


def application(profile: Any = "kalshi", **options: Any) -> Application:
    return resolve_application(profile, **{"owner": "bot", "root": "/opt/bot/data", **options})


def lines(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def words(text: str, key: str) -> set[str]:
    return {word for line in lines(text, key) for word in line.split()}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (the package systemd)")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("profile", sorted(BUILT_IN))
def test_systemd_finds_little_exposed(profile: str, variant: str, tmp_path: Path) -> None:
    """Backups with their prune, verifications and drills: 1.2 of 10 at most. The threshold counts tenths."""
    definition = {"extends": profile, "name": profile, "drill": {"key_file": "/root/recovery.asc"}}
    options = {"owner": "bot", "root": "/opt/bot/data", **VARIANTS[variant]}
    units = render_units(resolve_application(definition, **options))
    jobs = [name for name in units if name.startswith(JOBS) and name.endswith(".service")]
    assert len(jobs) >= 3
    # One of each kind: the tiers of backups differ in their command alone.
    for name in {name.split("-")[1]: name for name in jobs}.values():
        path = tmp_path / name
        path.write_text(units[name])
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=12", str(path)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_job_sees_its_application_alone(variant: str) -> None:
    ours = application(**VARIANTS[variant])
    for name, text in render_units(ours).items():
        if not (name.startswith(JOBS) and name.endswith(".service")):
            continue
        assert lines(text, "RootDirectory") == [str(sandbox_root(ours))]
        assert lines(text, "ProtectSystem") == ["strict"]
        assert lines(text, "CapabilityBoundingSet") == ["CAP_SETUID CAP_SETGID CAP_KILL"]
        assert str(ours.application_state_dir) in words(text, "BindPaths")
        shown = words(text, "BindPaths") | {word.lstrip("-") for word in words(text, "BindReadOnlyPaths")}
        # Neither these as a whole nor anything above them, where other applications and root's files lie.
        for place in ("/", "/etc", "/var", "/run", "/opt", "/home", "/root", str(ours.state_dir), str(ours.config_dir)):
            assert place not in shown
        assert not {str(sandbox_root(ours)), str(sandbox_root(ours).parent)} & shown


def test_systemd_would_take_the_right_to_become_the_owner_away_with_user_root() -> None:
    """Systemd 257 does, where the unit has a SystemCallFilter; see tests/attacks/test_sandbox.py."""
    units = render_units(application())
    assert not [name for name, text in units.items() if lines(text, "User")]
    # What systemd sets for a unit with a User alone.
    services = [text for name, text in units.items() if name.endswith(".service")]
    assert all(lines(text, "Environment") == ["HOME=/root"] for text in services)


def test_sockets_are_there_for_gpg_alone() -> None:
    def families(unit: str, **options: Any) -> list[str]:
        return lines(
            render_units(application(**options))[f"tradekeep-{unit}-kalshi.service"], "RestrictAddressFamilies"
        )

    assert families("verify") == ["none"]
    assert families("verify", **VARIANTS["key file"]) == ["AF_UNIX"]
    for variant, wanted in (
        ("plain", "none"),
        ("key file", "AF_UNIX"),
        ("keyring", "AF_UNIX"),
        ("passphrase", "AF_UNIX"),
    ):
        units = render_units(application(**VARIANTS[variant]))
        assert lines(units["tradekeep-backup-kalshi-daily.service"], "RestrictAddressFamilies") == [wanted]


def test_of_roots_keyring_a_backup_sees_public_keys_alone() -> None:
    backup = render_units(application(**VARIANTS["keyring"]))["tradekeep-backup-kalshi-daily.service"]
    assert "-/root/.gnupg/pubring.kbx" in words(backup, "BindReadOnlyPaths")
    assert "private-keys" not in backup
    assert "/root/.gnupg:mode=0700" in words(backup, "TemporaryFileSystem")
    plain = render_units(application())["tradekeep-backup-kalshi-daily.service"]
    assert ".gnupg" not in plain


def test_what_writes_archives_sees_the_public_half_of_the_hosts_key_alone() -> None:
    ours = application(**VARIANTS["key file"])
    units = render_units(ours)
    public, secret = f"-{ours.host_public_key}", f"-{ours.host_secret_key}"
    for unit, sees_secret in (("backup-kalshi-daily", False), ("verify-kalshi", True), ("drill-kalshi", True)):
        text = units[f"tradekeep-{unit}.service"]
        shown = words(text, "BindReadOnlyPaths")
        assert (public in shown, secret in shown) == (True, sees_secret)
        # Nothing that it can write to holds the key, or leads there.
        assert not [path for path in words(text, "BindPaths") if PurePosixPath(path) in ours.host_secret_key.parents]
    others = (VARIANTS["plain"], VARIANTS["passphrase"], {**VARIANTS["key file"], "host_key": False})
    for options in others:
        assert not [text for text in render_units(application(**options)).values() if "host-keys" in text]


def test_odd_paths_are_one_word() -> None:
    ours = application(root="/srv/my bot: 50%/data")
    backup = render_units(ours)["tradekeep-backup-kalshi-daily.service"]
    assert lines(backup, "BindPaths")[0].startswith('"/srv/my bot: 50%%/data" ')


class Systemd:
    """Runs the interpreter for real, and nothing of systemd's."""

    def find(self, program: str) -> str:
        return f"/usr/bin/{program}"

    def run(self, argv: list[str], **options: Any) -> Completed:
        if argv[0].endswith("python"):
            return SubprocessRunner().run(argv, **options)
        return Completed(tuple(argv), 0, "", "")


@pytest.fixture
def installable(tmp_path: Path) -> Application:
    (tmp_path / "units").mkdir()
    (tmp_path / "bin").mkdir()
    return replace(
        application(),
        state_dir=PurePosixPath(tmp_path / "state"),
        bin_dir=PurePosixPath(tmp_path / "bin"),
    )


def install(ours: Application, tmp_path: Path, **options: Any) -> Any:
    ports = Ports(Systemd(), SystemClock(), NoProgress())  # type: ignore[arg-type]
    return install_units(ours, ports, unit_dir=str(tmp_path / "units"), **options)


def test_the_directory_of_the_sandbox_is_made_and_made_again(installable: Application, tmp_path: Path) -> None:
    place = Path(sandbox_root(installable))
    install(installable, tmp_path, dry_run=True)
    assert not place.exists()
    install(installable, tmp_path)
    assert place.stat().st_mode & 0o777 == place.parent.stat().st_mode & 0o777 == 0o755
    shutil.rmtree(place.parent)
    assert install(installable, tmp_path).changed
    assert place.is_dir()


def test_an_interpreter_of_its_own_is_shown(installable: Application, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "tradekeep"
    for options in ("", " -IXutf8"):
        program.write_text(f"#!{sys.executable}{options}\n")
        install(installable, tmp_path)
        text = (tmp_path / "units" / "tradekeep-backup-kalshi-daily.service").read_text()
        shown = {word.lstrip("-") for word in words(text, "BindReadOnlyPaths")}
        for wanted in (Path(sys.executable).parent, Path(sys.prefix), Path(sys.base_prefix)):
            assert str(wanted) in shown or wanted.is_relative_to("/usr")
    program.write_text("#!/usr/bin/python3 -IXutf8\n")
    install(installable, tmp_path)
    assert sys.prefix not in (tmp_path / "units" / "tradekeep-backup-kalshi-daily.service").read_text()


def test_a_deploy_does_not_see_the_backups_and_records_of_others(tmp_path: Path) -> None:
    def configured(name: str, **options: Any) -> Application:
        made = application({"extends": "kalshi", "name": name}, config_dir=str(tmp_path), **options)
        (tmp_path / f"{name}.json").write_text(render_configuration(made))
        return made

    ours = configured("one", backup_dir="/opt/backups/one")
    configured("two", backup_dir='/srv/two "50%" backups')
    configured("three", backup_dir="/opt/backups/one/inside")
    configured("four", backup_dir="/opt/backups")
    (tmp_path / "damaged.json").write_text("{")
    found = confined(ours)
    assert "ProtectSystem=full" in found
    assert 'ReadWritePaths="-/etc/systemd/system"' in found
    (hidden,) = [item for item in found if item.startswith("InaccessiblePaths=")]
    assert '"-/srv/two \\"50%\\" backups"' in hidden
    assert all(f'"-/var/lib/tradekeep/{name}"' in hidden for name in ("two", "three", "four"))
    assert all(f'"-/var/lib/tradekeep/.host-keys/{name}"' in hidden for name in ("two", "three", "four"))
    # What lies around our own backups, or inside of them, has to stay.
    assert "/opt/backups" not in hidden and '"-/var/lib/tradekeep/one"' not in hidden
    assert 'ReadWritePaths="-/etc/systemd/system" "-/usr/local/bot"' in confined(
        configured("five", root="/usr/local/bot")
    )


def test_recovery_may_do_what_it_did_and_become_the_owner() -> None:
    units = render_units(
        replace(
            application(),
            profile=replace(application().profile, services=(Services(ServiceManager.SYSTEMD, ("bot",)),)),
        )
    )
    for name in ("tradekeep-guard-kalshi.service", "tradekeep-recover-kalshi.service"):
        may = words(units[name], "CapabilityBoundingSet")
        assert may == {f"CAP_{name}" for name in ("DAC_OVERRIDE", "CHOWN", "FOWNER", "SETUID", "SETGID", "KILL")}
        assert "RootDirectory" not in units[name] and lines(units[name], "LimitCORE") == ["0"]


def test_the_keys_of_a_profile_with_encryption_are_shown_where_they_lie() -> None:
    ours = replace(application(), encryption=Encryption(passphrase_file="/srv/keys/passphrase"))
    for unit in ("backup-kalshi-daily", "verify-kalshi", "drill-kalshi"):
        assert "-/srv/keys/passphrase" in words(render_units(ours)[f"tradekeep-{unit}.service"], "BindReadOnlyPaths")
