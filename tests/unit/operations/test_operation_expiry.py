# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that expire: said long before, and one of several that has expired stops no backup to the others. With gpg."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import EncryptionError, ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.host_key import plan_keys
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
PEOPLE = {"good": (1, "never"), "other": (1, "never"), "old": (400, "30d"), "soon": (1, "11d"), "later": (1, "90d")}
"""Made so many days ago, and how long they are good."""


def gpg(home, *arguments):
    argv = ["gpg", "--batch", "--quiet", "--homedir", home, "--pinentry-mode", "loopback", "--passphrase", ""]
    return subprocess.run([*argv, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Key files: of each person, and of two in one file; "subkey" is of one whose part to encrypt with has expired."""
    place, files = tmp_path_factory.mktemp("keys"), {}
    with tempfile.TemporaryDirectory(prefix="tk-") as home:
        for name, (days, good_for) in PEOPLE.items():
            then = time.strftime("%Y%m%dT%H%M%S", time.gmtime(time.time() - days * 86400))
            gpg(home, "--faked-system-time", then, "--quick-gen-key", name, "future-default", "default", good_for)
        then = time.strftime("%Y%m%dT%H%M%S", time.gmtime(time.time() - 400 * 86400))
        gpg(home, "--faked-system-time", then, "--quick-gen-key", "subkey", "ed25519", "cert", "never")
        listed = gpg(home, "--with-colons", "--list-keys", "subkey").splitlines()
        fingerprint = next(line.split(":")[9] for line in listed if line.startswith("fpr"))
        gpg(home, "--faked-system-time", then, "--quick-add-key", fingerprint, "cv25519", "encr", "30d")
        for names in (*((name,) for name in (*PEOPLE, "subkey")), ("good", "old")):
            path = place / f"{'-and-'.join(names)}.asc"
            path.write_text(gpg(home, "--armor", "--export", *names))
            files["+".join(names)] = str(path)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], capture_output=True)
    return files


@pytest.fixture
def bot(make_bench, keys):
    def make(*names, host_key=False):
        bench = make_bench(gpg_recipients=[keys[name] for name in names], host_key=host_key)
        bench.make_tree()
        bench.backups.mkdir(mode=0o700)
        return bench

    return make


@pytest.mark.parametrize("names", [("old",), ("subkey",)])
def test_an_expired_key_alone_is_a_problem_and_stops_backups(bot, names):
    bench = bot(*names)
    checked = check_configuration(bench.application, bench.ports)
    assert checked.status == ExitStatus.FINDINGS
    assert any("expired on 20" in problem and "renew" in problem for problem in checked.record["problems"])
    for dry_run in (True, False):
        with pytest.raises(EncryptionError, match="expired on 20"):
            backup(bench.application, bench.ports, dry_run=dry_run)
    assert not list(bench.backups.glob("*.gpg"))


@pytest.mark.parametrize("names", [("good", "old"), ("old", "good"), ("good+old",)])
def test_hazard_b8_one_expired_key_of_two_stops_no_backup_to_the_other(bot, names):
    bench = bot(*names)
    checked = check_configuration(bench.application, bench.ports)
    assert (checked.status, checked.record["problems"]) == (ExitStatus.FINDINGS, [])
    assert any("old" in text and "expired on 20" in text for text in checked.record["warnings"])
    rehearsed = backup(bench.application, bench.ports, dry_run=True)
    made = backup(bench.application, bench.ports)
    assert made.status == ExitStatus.DONE
    for outcome in (rehearsed, made):
        assert any("expired on 20" in text for text in outcome.record["warnings"])
        assert any("expired on 20" in line for line in (*outcome.lines, *bench.notes))
    listed = list_backups(bench.application, bench.ports)
    assert listed.status == ExitStatus.FINDINGS
    assert any("PROBLEM" in line and "expired on 20" in line for line in listed.lines)
    packets = subprocess.run(
        ["gpg", "--list-packets", "--list-only", made.record["backup"]["path"]], capture_output=True, text=True
    ).stdout
    assert packets.count(":pubkey enc packet:") == 1


def test_hazard_b8_the_hosts_own_key_does_not_stand_for_peoples(bot):
    """It is lost with the server: an archive that nothing else opens is none."""
    bench = bot("old", host_key=True)
    plan_keys(bench.application).before(bench.ports)
    with pytest.raises(EncryptionError, match="expired on 20"):
        backup(bench.application, bench.ports)
    assert check_configuration(bench.application, bench.ports).record["problems"]


def test_a_key_is_named_thirty_days_before_it_expires(bot, keys):
    bench = bot("soon", "later")
    checked = check_configuration(bench.application, bench.ports)
    assert (checked.status, checked.record["problems"]) == (ExitStatus.FINDINGS, [])
    said = [text for text in checked.record["warnings"] if "expires on 20" in text]
    assert len(said) == 1
    assert said[0].startswith(keys["soon"])
    assert "in 9 days" in said[0] or "in 10 days" in said[0]
    made = backup(bench.application, bench.ports)
    assert made.status == ExitStatus.DONE
    assert [text for text in made.record["warnings"] if "expires on" in text]
    assert verify(bench.application, bench.ports, reference="all").status == ExitStatus.DONE


def test_keys_that_do_not_expire_are_not_mentioned(bot):
    bench = bot("good", "other")
    for outcome in (check_configuration(bench.application, bench.ports), backup(bench.application, bench.ports)):
        assert outcome.status == ExitStatus.DONE
        assert not any("expires on" in line or "expired on" in line for line in (*outcome.lines, *bench.notes))
