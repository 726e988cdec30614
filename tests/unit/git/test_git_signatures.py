# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Signatures by real ssh and gpg keys."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError, FindingsError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import command_as


@pytest.fixture
def ssh_keys(world) -> dict[str, Path]:
    keys: dict[str, Path] = {}
    for name in ("good", "other"):
        key = Path(world.account.home, name)
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
        subprocess.run(command_as(world.account, argv), check=True)
        keys[name] = key
    signers = world.place / "signers"
    signers.write_text(f"# who may\ngood@example.com {keys['good'].with_suffix('.pub').read_text()}")
    signers.chmod(0o600)
    keys["signers"] = signers
    return keys


def ssh_signed(world, key: Path) -> None:
    for name, value in (("gpg.format", "ssh"), ("user.signingKey", str(key))):
        world.upstream.git("config", name, value)


def test_an_ssh_signature_of_an_allowed_signer_is_good(world, ssh_keys: dict[str, Path]) -> None:
    ssh_signed(world, ssh_keys["good"])
    world.upstream.commit({"a": "1"}, "--gpg-sign")
    mirror = world.fetched()
    found = mirror.verify_signature(mirror.resolve("main"), ssh_keys["signers"])
    assert (found.what, found.format, found.signer) == ("commit", "ssh", "good@example.com")
    assert found.key.startswith("SHA256:")


def test_other_ssh_keys_and_no_signature_are_refused(world, ssh_keys: dict[str, Path]) -> None:
    ssh_signed(world, ssh_keys["other"])
    world.upstream.commit({"a": "1"}, "--gpg-sign")
    # What the owner itself trusts, or runs, does not count.
    everybody = Path(world.account.home, "everybody")
    everybody.write_text(f"* {ssh_keys['other'].with_suffix('.pub').read_text()}")
    settings = f'[gpg]\n\tprogram = true\n[gpg "ssh"]\n\tallowedSignersFile = {everybody}\n\tprogram = true\n'
    Path(world.account.home, ".gitconfig").write_text(settings)
    mirror = world.fetched()
    with pytest.raises(FindingsError, match="no good signature of an allowed signer"):
        mirror.verify_signature(mirror.resolve("main"), ssh_keys["signers"])
    world.upstream.commit({"a": "2"})
    mirror.fetch(world.url)
    with pytest.raises(FindingsError, match="is not signed"):
        mirror.verify_signature(mirror.resolve("main"), ssh_keys["signers"])


def test_a_signed_tag_vouches_for_its_commit(world, ssh_keys: dict[str, Path]) -> None:
    ssh_signed(world, ssh_keys["good"])
    world.upstream.commit({"a": "1"})
    world.upstream.git("tag", "--sign", "-m", "release", "v1")
    world.upstream.git("tag", "--annotate", "-m", "release", "v2")
    mirror = world.fetched()
    assert mirror.verify_signature(mirror.resolve("v1"), ssh_keys["signers"]).what == "tag"
    for ref in ("v2", "main"):
        with pytest.raises(FindingsError, match="is not signed"):
            mirror.verify_signature(mirror.resolve(ref), ssh_keys["signers"])


def test_a_changed_commit_with_an_old_signature_is_refused(world, ssh_keys: dict[str, Path]) -> None:
    ssh_signed(world, ssh_keys["good"])
    world.upstream.commit({"a": "1"}, "--gpg-sign")
    forged = world.place / "home/forged"
    forged.write_text(world.upstream.git("cat-file", "commit", "HEAD").replace("change", "chance") + "\n")
    number = world.upstream.git("hash-object", "-t", "commit", "-w", str(forged))
    world.upstream.git("update-ref", "refs/heads/main", number)
    mirror = world.fetched()
    with pytest.raises(FindingsError, match="no good signature"):
        mirror.verify_signature(mirror.resolve("main"), ssh_keys["signers"])


@pytest.fixture
def gpg_home(world) -> Iterator[Path]:
    home = Path(world.account.home, "g")
    home.mkdir(mode=0o700)
    world.upstream.give()
    if world.account.uid != 0:
        shutil.chown(home, world.account.uid, world.account.gid)
    for name in ("good", "other"):
        gpg(world, home, "--passphrase", "", "--quick-generate-key", f"{name} <{name}@example.com>", "ed25519", "sign")
    yield home
    subprocess.run(command_as(world.account, ["gpgconf", "--homedir", str(home), "--kill", "all"]), check=False)


def gpg(world, home: Path, *arguments: str) -> bytes:
    argv = command_as(world.account, ["gpg", "--homedir", str(home), "--batch", "--quiet", *arguments])
    return subprocess.run(argv, check=True, capture_output=True).stdout


@pytest.mark.parametrize("armor", [("--armor",), ()])
def test_a_gpg_signature_counts_when_its_key_is_in_the_keyring(world, gpg_home: Path, armor: tuple[str, ...]) -> None:
    keyring = world.place / "keyring"
    keyring.write_bytes(gpg(world, gpg_home, *armor, "--export", "good@example.com"))
    keyring.chmod(0o600)
    world.upstream.write({"a": "1"})
    world.upstream.git("add", ".")
    commit = ("commit", "--quiet", "--allow-empty", "--message", "x")
    world.upstream.git(*commit, "--gpg-sign=good@example.com", GNUPGHOME=str(gpg_home))
    world.upstream.git("branch", "good")
    world.upstream.git(*commit, "--gpg-sign=other@example.com", GNUPGHOME=str(gpg_home))
    mirror = world.fetched()
    found = mirror.verify_signature(mirror.resolve("good"), keyring)
    assert (found.format, found.signer) == ("gpg", "good <good@example.com>")
    assert len(found.key) == 40
    with pytest.raises(FindingsError, match="the key is not in the keyring"):
        mirror.verify_signature(mirror.resolve("main"), keyring)


def test_ssh_signatures_do_not_pass_a_keyring(world, ssh_keys: dict[str, Path], gpg_home: Path) -> None:
    keyring = world.place / "keyring"
    keyring.write_bytes(gpg(world, gpg_home, "--export"))
    ssh_signed(world, ssh_keys["good"])
    world.upstream.commit({"a": "1"}, "--gpg-sign")
    settings = f'[gpg "ssh"]\n\tallowedSignersFile = {ssh_keys["signers"]}\n'
    Path(world.account.home, ".gitconfig").write_text(settings)
    mirror = world.fetched()
    with pytest.raises(FindingsError, match="no good signature"):
        mirror.verify_signature(mirror.resolve("main"), keyring)


def test_what_is_neither_keys_nor_keyring_is_refused(world) -> None:
    world.upstream.commit({"a": "1"})
    mirror = world.fetched()
    signers = world.place / "signers"
    for content in (b"", b"nobody\n", b"# only a comment\n"):
        signers.write_bytes(content)
        with pytest.raises(ConfigurationError, match="neither an allowed_signers file"):
            mirror.verify_signature(mirror.resolve("main"), signers)
