# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What OpenPGP files say without a key, held against what gpg says of them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.key_pair import make_key_pair, secret_key_ids
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.openpgp import keys_in, message_keys
from ansible_collections.tradekeep.ops.tests.unit.archive.samples import RUNNER

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")


class Home:
    """A gpg home with one key pair of each kind."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for name, kind in (("curve", "future-default"), ("rsa", "rsa2048")):
            usage = "default" if kind == "future-default" else "cert,encr"
            self("--quick-gen-key", f"{name}@example.com", kind, usage, "never")

    def __call__(self, *arguments: str, content: bytes = b"") -> bytes:
        argv = ["gpg", "--batch", "--quiet", "--homedir", str(self.place), "--pinentry-mode", "loopback"]
        argv += ["--passphrase", "x" if "--symmetric" in arguments else "", "--trust-model", "always"]
        return subprocess.run([*argv, *arguments], input=content, check=True, capture_output=True).stdout

    def ids(self, *names: str) -> set[str]:
        listed = self("--with-colons", "--list-keys", *names).decode().splitlines()
        return {line.split(":")[4] for line in listed if line.startswith(("pub:", "sub:"))}


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    place = Path(tempfile.mkdtemp(prefix="tk-"))  # gpg's agent wants a short path
    yield Home(place)
    subprocess.run(["gpgconf", "--homedir", str(place), "--kill", "all"], check=False)
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("armor", [(), ("--armor",)], ids=["binary", "armored"])
def test_the_keys_of_a_file_are_those_that_gpg_names(home: Home, armor: tuple[str, ...]) -> None:
    found = keys_in(home(*armor, "--export"))
    assert (found.key_ids, found.public, found.secret) == (home.ids(), True, False)
    found = keys_in(home(*armor, "--export-secret-keys"))
    assert (found.public, found.secret) == (False, True)
    # Both halves in one file, the secret one last.
    both = home("--armor", "--export", "rsa@example.com") + home("--armor", "--export-secret-keys", "curve@example.com")
    assert keys_in(both).secret
    assert keys_in(home("--export", "rsa@example.com") + home("--export-secret-keys", "curve@example.com")).secret


@pytest.mark.parametrize("armor", [(), ("--armor",)], ids=["binary", "armored"])
def test_what_opens_a_message_is_read_from_its_head(home: Home, armor: tuple[str, ...]) -> None:
    both = ("-r", "curve@example.com", "-r", "rsa@example.com")
    keys = message_keys(home(*armor, "--encrypt", *both, content=b"text")[:4096])
    assert len(keys.key_ids) == 2 and set(keys.key_ids) <= home.ids() and not keys.passphrase
    keys = message_keys(home(*armor, "--encrypt", "--symmetric", "-r", "rsa@example.com", content=b"text"))
    assert set(keys.key_ids) <= home.ids("rsa@example.com") and keys.passphrase
    hidden = message_keys(home(*armor, "--encrypt", "-R", "rsa@example.com", content=b"text"))
    assert hidden.key_ids == ("0" * 16,)


def test_anything_else_is_no_key_and_no_message(home: Home) -> None:
    exported = home("--export", "rsa@example.com")
    garbage = (
        b"",
        b"no key\n",
        b"\x1f\x8b\x08",
        b"\xff" * 64,
        b"\x99",
        exported[:20],
        b"-----BEGIN PGP MESSAGE-----\n=\n",
    )
    for content in garbage:
        assert message_keys(content).key_ids == ()
        assert not keys_in(content).secret
    assert not keys_in(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!\n").public


def test_a_new_pair_says_what_it_is_and_its_clock_does_not_matter(home: Home, tmp_path: Path) -> None:
    public, secret = make_key_pair("tradekeep host key of bot", RUNNER)
    assert keys_in(public.encode()).public and keys_in(secret.encode()).secret
    (tmp_path / "public.asc").write_text(public)
    (tmp_path / "secret.asc").write_text(secret)
    # A clock that was set right again after the key was made.
    before = "--faked-system-time=20210101T000000"
    message = home(before, "--encrypt", "--recipient-file", str(tmp_path / "public.asc"), content=b"text")
    assert set(message_keys(message).key_ids) <= keys_in(public.encode()).key_ids
    home("--import", str(tmp_path / "secret.asc"))
    assert home("--decrypt", content=message) == b"text"
    assert keys_in(public.encode()).key_ids <= secret_key_ids(str(home.place), RUNNER)
