# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Passphrase files as editors leave them: on the bad day somebody types what he sees."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Encryption
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import open_container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.passphrase import read_passphrase
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_reader import read_archive
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import EncryptionError
from ansible_collections.tradekeep.ops.tests.unit.archive.samples import RUNNER, sample_container

needs_gpg = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
SEEN = "correct horse  battery"
WRITTEN = {
    "crlf": (f"{SEEN}\r\n", "a carriage return"),
    "bom": (f"\ufeff{SEEN}\n", "a byte order mark"),
    "blank": (f" {SEEN}\t\n", "blanks"),
    "all": (f"\ufeff{SEEN} \r\nanother line\n", "a byte order mark and a carriage return and blanks"),
    "none": (SEEN, ""),
}


@pytest.fixture
def secret(tmp_path):
    def written(content: str, name: str = "passphrase") -> str:
        path = tmp_path / name
        path.touch(0o600)
        path.write_bytes(content.encode())
        return str(path)

    return written


@pytest.mark.parametrize("name", WRITTEN)
def test_what_nobody_sees_is_no_part_of_a_passphrase_and_is_named(secret, name):
    content, unseen = WRITTEN[name]
    found = read_passphrase(secret(content))
    assert found.typed.decode() == SEEN
    assert found.unseen == unseen


def test_a_file_with_nothing_to_type_is_refused(secret):
    with pytest.raises(EncryptionError, match="empty"):
        read_passphrase(secret("\ufeff \r\n"))


@needs_gpg
@pytest.mark.parametrize("name", ["crlf", "all"])
def test_what_is_typed_opens_a_new_archive(tmp_path, secret, name):
    archive = tmp_path / "backup.tar.gz.gpg"
    sample_container(archive, encryption=Encryption(passphrase_file=secret(WRITTEN[name][0])))
    for opener in (secret(f"{SEEN}\n", "typed"), secret(WRITTEN[name][0])):
        with open_container(archive, runner=RUNNER, passphrase_file=opener) as stream:
            assert read_archive(stream).entries


@needs_gpg
@pytest.mark.parametrize("name", ["crlf", "all"])
def test_an_archive_of_a_version_that_took_the_whole_line_still_opens(tmp_path, secret, name):
    plain, archive = tmp_path / "plain.tar.gz", tmp_path / "backup.tar.gz.gpg"
    sample_container(plain)
    file = secret(WRITTEN[name][0])
    argv = ["gpg", "--batch", "--quiet", "--no-symkey-cache", "--pinentry-mode", "loopback", "--passphrase-file", file]
    subprocess.run([*argv, "--output", str(archive), "--symmetric", str(plain)], check=True, cwd=tmp_path)
    with open_container(archive, runner=RUNNER, passphrase_file=file) as stream:
        assert read_archive(stream).entries
    other = open_container(archive, runner=RUNNER, passphrase_file=secret("another \n"))
    with pytest.raises(EncryptionError, match="wrong passphrase"), other as stream:
        read_archive(stream)
