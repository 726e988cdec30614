# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Containers: every engine, encryption with real gpg, faults on the way."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import threading
import time
import zlib

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Encryption
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import compression, container
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.container import (
    create_container,
    open_container,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.encryption import prove_round_trip
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_reader import read_archive
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.tar_writer import ArchiveWriter
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ArchiveError,
    CommandError,
    EncryptionError,
    SpaceError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
from ansible_collections.tradekeep.ops.tests.unit.archive.samples import RUNNER, header, sample_container, write_sample


def engine_or_skip(name):
    if name == "isal":
        pytest.importorskip("isal", reason="python-isal is not installed")
    elif name != "zlib" and shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


class Without(SubprocessRunner):
    """A machine that lacks some programs."""

    def __init__(self, *missing):
        super().__init__()
        self.missing = missing

    def find(self, program):
        return None if program in self.missing else super().find(program)


def read(path, **options):
    with open_container(path, runner=RUNNER, **options) as stream:
        return read_archive(stream)


@pytest.mark.parametrize("reader", ["isal", "igzip", "pigz", "zlib"])
@pytest.mark.parametrize("writer", ["isal", "igzip", "pigz", "zlib"])
def test_every_engine_reads_what_every_engine_writes(tmp_path, writer, reader):
    engine_or_skip(writer)
    engine_or_skip(reader)
    path = tmp_path / "a.tar.gz"
    sample_container(path, engine=writer)
    assert read(path, engine=reader).ok
    with open_container(path, runner=RUNNER, engine=reader) as stream:
        while stream.read(1 << 20):
            pass
        assert stream.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("engine", ["isal", "igzip", "pigz", "zlib"])
@pytest.mark.parametrize("damage", ["garbage", "joined", "truncated", "one byte short", "checksum", "length"])
def test_hazard_c2_every_engine_is_strict(tmp_path, engine, damage):
    engine_or_skip(engine)
    path = tmp_path / "a.tar.gz"
    sample_container(path)
    data = path.read_bytes()
    path.write_bytes(
        {
            "garbage": data + b"\0garbage",
            # A second member that unpacks to nothing: invisible to a program that joins members.
            "joined": data + subprocess.run(["gzip", "-c"], input=b"", capture_output=True).stdout,
            "truncated": data[: len(data) // 2],
            "one byte short": data[:-1],
            "checksum": data[:-8] + bytes([data[-8] ^ 1]) + data[-7:],
            "length": data[:-1] + bytes([data[-1] ^ 1]),
        }[damage]
    )
    with pytest.raises(ArchiveError):
        read(path, engine=engine)


def test_the_fastest_engine_at_hand_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "_isal", None)
    assert compression.choose_engine("gzip", Without("igzip", "pigz")) == "zlib"
    assert compression.choose_engine("gzip", Without("pigz", "zstd")) in ("igzip", "zlib")
    with pytest.raises(CommandError, match="zstd"):
        compression.choose_engine("zstd", Without("zstd"))
    with pytest.raises(UsageError):
        compression.choose_engine("lzma", RUNNER)


def test_what_is_no_archive_is_said_to_be_none(tmp_path):
    (tmp_path / "text").write_bytes(b"hello" * 1000)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ArchiveError, match="no archive"):
        read(tmp_path / "text")
    with pytest.raises(ArchiveError, match="empty"):
        read(tmp_path / "empty")
    with pytest.raises(ArchiveError, match="cannot be opened"):
        read(tmp_path / "none")
    with pytest.raises(ArchiveError):
        read(tmp_path)


def test_hazard_b1_containers_are_private_and_never_overwrite(tmp_path):
    path = tmp_path / "a.tar.gz"
    old = os.umask(0)
    try:
        with create_container(path, runner=RUNNER) as made:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            write_sample(ArchiveWriter(made.stream, header()))
    finally:
        os.umask(old)
    assert made.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert made.size == path.stat().st_size
    with pytest.raises(ArchiveError, match="File exists"), create_container(path, runner=RUNNER):
        pass
    assert read(path).ok


@pytest.mark.parametrize("engine", ["isal", "pigz", "zlib"])
def test_hazard_b1_a_failing_writer_leaves_nothing(tmp_path, engine):
    engine_or_skip(engine)
    path = tmp_path / "a.tar.gz"
    with pytest.raises(KeyError), create_container(path, runner=RUNNER, engine=engine) as made:
        made.stream.write(os.urandom(3 << 20))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full of Linux")
@pytest.mark.parametrize("engine", ["isal", "pigz", "zlib"])
def test_hazard_b6_disk_full_is_a_space_error(tmp_path, engine, monkeypatch):
    engine_or_skip(engine)
    path = tmp_path / "a.tar.gz"

    class Full(container.FileStage):
        def __init__(self, where):
            super().__init__(where)
            os.close(self._descriptor)
            self._descriptor = os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(container, "FileStage", Full)
    with pytest.raises(SpaceError, match="disk is full"), create_container(path, runner=RUNNER, engine=engine) as made:
        for _ in range(40):
            made.stream.write(os.urandom(1 << 20))
    assert list(tmp_path.iterdir()) == []


class Killing(SubprocessRunner):
    """Kills its pipes after a while, as the kernel does when memory is short."""

    def pipe(self, argv, **options):
        pipe = super().pipe(argv, **options)
        threading.Timer(0.1, lambda: os.kill(pipe._process.pid, signal.SIGKILL)).start()
        return pipe


@pytest.mark.parametrize("engine", ["pigz", "igzip"])
def test_a_program_that_dies_while_writing_is_an_error_and_no_hang(tmp_path, engine):
    engine_or_skip(engine)
    path = tmp_path / "a.tar.gz"
    with (
        pytest.raises(CommandError, match="signal 9"),
        create_container(path, runner=Killing(), engine=engine) as made,
    ):
        for _ in range(200):
            made.stream.write(bytes(1 << 20))
            time.sleep(0.005)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["pigz", "igzip"])
def test_a_program_that_dies_while_reading_is_an_error_and_no_hang(tmp_path, engine):
    engine_or_skip(engine)
    path = tmp_path / "a.tar.gz"
    with create_container(path, runner=RUNNER, engine="zlib") as made:
        for _ in range(64):
            made.stream.write(bytes(1 << 20))
    with (
        open_container(path, runner=Killing(), engine=engine) as stream,
        pytest.raises(ArchiveError, match="cannot be decompressed"),
    ):
        while stream.read(1 << 20):
            time.sleep(0.02)


def test_reading_may_stop_anywhere(tmp_path):
    path = tmp_path / "a.tar.gz"
    sample_container(path)
    before = threading.active_count()
    for engine in ("zlib", "pigz"):
        engine_or_skip(engine)
        with open_container(path, runner=RUNNER, engine=engine) as stream:
            stream.read(10)
    assert threading.active_count() <= before


def test_an_observer_sees_the_archive_while_it_is_written(tmp_path):
    path = tmp_path / "a.tar.gz"
    with create_container(path, runner=RUNNER, observer=read_archive) as made:
        totals = write_sample(ArchiveWriter(made.stream, header()))
    assert made.observed.manifest_sha256 == totals.manifest_sha256


def test_an_observer_can_refuse(tmp_path):
    def refuse(stream):
        stream.read(10)
        raise ArchiveError("not good")

    with (
        pytest.raises(ArchiveError, match="not good"),
        create_container(tmp_path / "a", runner=RUNNER, observer=refuse) as made,
    ):
        for _ in range(20):
            made.stream.write(os.urandom(1 << 20))
    assert list(tmp_path.iterdir()) == []


# Encryption


def gpg(home, *arguments, **options):
    argv = ["gpg", "--batch", "--quiet", "--homedir", str(home), "--pinentry-mode", "loopback", *arguments]
    return subprocess.run(argv, check=True, capture_output=True, **options).stdout


def make_home(base, name, passphrase=""):
    home = base / name
    home.mkdir(mode=0o700)
    uid = f"{name} <{name}@example.com>"
    gpg(home, "--passphrase", passphrase, "--quick-gen-key", uid, "ed25519", "cert", "never")
    fingerprint = next(
        line.split(":")[9]
        for line in gpg(home, "--with-colons", "--list-keys", text=True).splitlines()
        if line.startswith("fpr")
    )
    gpg(home, "--passphrase", passphrase, "--quick-add-key", fingerprint, "cv25519", "encr", "never")
    return home, fingerprint


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed")
    base = tmp_path_factory.mktemp("keys")
    home, fingerprint = make_home(base, "owner")
    other, _ = make_home(base, "other")
    public, secret = base / "public.asc", base / "secret.asc"
    public.write_bytes(gpg(home, "--armor", "--export", fingerprint))
    secret.write_bytes(gpg(home, "--armor", "--passphrase", "", "--export-secret-keys", fingerprint))
    other_secret = base / "other.asc"
    other_secret.write_bytes(gpg(other, "--armor", "--passphrase", "", "--export-secret-keys"))
    yield {
        "home": str(home),
        "other": str(other),
        "fingerprint": fingerprint,
        "public": str(public),
        "secret": str(secret),
        "other_secret": str(other_secret),
    }
    for directory in (home, other):
        subprocess.run(["gpgconf", "--homedir", str(directory), "--kill", "all"], capture_output=True)


@pytest.fixture
def passphrase_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("passphrase") / "file"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def private_tmp(tmp_path_factory, monkeypatch):
    """Where temporary homes are made; must be empty again afterwards."""
    import tempfile

    base = tempfile.mkdtemp(prefix="tk-")
    monkeypatch.setattr(tempfile, "tempdir", base)
    yield base
    assert os.listdir(base) == []
    os.rmdir(base)


def test_to_a_public_key_and_back(tmp_path, keys, private_tmp):
    path = tmp_path / "a.tar.gz.gpg"
    encryption = Encryption(recipients=(keys["public"],))
    with create_container(path, runner=RUNNER, encryption=encryption, observer=read_archive) as made:
        totals = write_sample(ArchiveWriter(made.stream, header(encrypted=True)))
    assert made.encrypted
    assert made.observed.manifest_sha256 == totals.manifest_sha256
    assert made.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    report = read(path, gnupg_home=keys["home"])
    assert report.manifest_sha256 == totals.manifest_sha256
    with pytest.raises(EncryptionError, match="no secret key"):
        read(path, gnupg_home=keys["other"])
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    with pytest.raises((EncryptionError, ArchiveError)):
        read(path, gnupg_home=keys["home"])


def test_fingerprints_come_from_the_keyring(tmp_path, keys, private_tmp, monkeypatch):
    class WithHome(SubprocessRunner):
        def _environment(self, extra):
            return {**super()._environment(extra), "GNUPGHOME": keys["home"]}

    path = tmp_path / "a.tar.gz.gpg"
    encryption = Encryption(recipients=(keys["fingerprint"],))
    with create_container(path, runner=WithHome(), encryption=encryption) as made:
        write_sample(ArchiveWriter(made.stream, header()))
    assert read(path, gnupg_home=keys["home"]).ok


def test_hazard_b8_with_a_passphrase_file_and_back(tmp_path, passphrase_file, private_tmp):
    path = tmp_path / "a.tar.gz.gpg"
    sample_container(path, encryption=Encryption(passphrase_file=passphrase_file))
    assert read(path, passphrase_file=passphrase_file).ok
    with pytest.raises(EncryptionError, match="name the passphrase file"):
        read(path)
    with open(passphrase_file, "w") as file:
        file.write("wrong\n")
    with pytest.raises(EncryptionError, match="wrong passphrase"):
        read(path, passphrase_file=passphrase_file)


@pytest.mark.parametrize(
    ("recipient", "message"),
    [("0123456789ABCDEF0123456789ABCDEF01234567", "unknown"), ("/does/not/exist.asc", "cannot be read")],
)
def test_an_unknown_recipient_is_named(tmp_path, private_tmp, recipient, message):
    with (
        pytest.raises(EncryptionError, match=message) as error,
        create_container(tmp_path / "a", runner=RUNNER, encryption=Encryption(recipients=(recipient,))),
    ):
        pass
    assert recipient in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_hazard_b8_bad_keys_and_passphrase_files_are_refused_before_anything_is_written(tmp_path, keys, private_tmp):
    garbage = tmp_path / "garbage.asc"
    garbage.write_text("no key")
    public = tmp_path / "open"
    public.write_text("secret")
    public.chmod(0o644)
    empty = tmp_path / "empty"
    empty.touch(mode=0o600)
    for encryption, message in (
        (Encryption(recipients=(keys["secret"],)), "holds a secret key"),
        (Encryption(recipients=(str(garbage),)), "cannot be imported"),
        (Encryption(passphrase_file=str(public)), "read by others"),
        (Encryption(passphrase_file=str(empty)), "empty"),
        (Encryption(passphrase_file=str(tmp_path / "none")), "cannot be read"),
    ):
        with (
            pytest.raises(EncryptionError, match=message),
            create_container(tmp_path / "a", runner=RUNNER, encryption=encryption),
        ):
            pass
        assert not (tmp_path / "a").exists()


def test_hazard_b1_a_missing_gpg_leaves_no_plaintext(tmp_path, keys):
    with (
        pytest.raises(EncryptionError, match="install gnupg"),
        create_container(tmp_path / "a", runner=Without("gpg"), encryption=Encryption(recipients=(keys["public"],))),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.once
def test_hazard_b8_the_recovery_key_is_proven(keys, passphrase_file, private_tmp):
    to_key = Encryption(recipients=(keys["public"],))
    prove_round_trip(to_key, runner=RUNNER, secret_key_file=keys["secret"])
    prove_round_trip(to_key, runner=RUNNER, gnupg_home=keys["home"])
    prove_round_trip(Encryption(passphrase_file=passphrase_file), runner=RUNNER)
    with pytest.raises(EncryptionError, match="no secret key"):
        prove_round_trip(to_key, runner=RUNNER, secret_key_file=keys["other_secret"])


def test_gpg_killed_while_writing_is_an_encryption_error(tmp_path, keys, private_tmp):
    with (
        pytest.raises(EncryptionError),
        create_container(
            tmp_path / "a", runner=Killing(), engine="zlib", encryption=Encryption(recipients=(keys["public"],))
        ) as made,
    ):
        for _ in range(100):
            made.stream.write(os.urandom(1 << 20))
            time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.once
def test_hazard_b8_no_secret_is_an_argument(tmp_path, passphrase_file):
    seen = []

    class Recording(SubprocessRunner):
        def pipe(self, argv, **options):
            seen.append(argv)
            return super().pipe(argv, **options)

    with create_container(
        tmp_path / "a", runner=Recording(), encryption=Encryption(passphrase_file=passphrase_file)
    ) as made:
        made.stream.write(b"x")
    assert seen
    assert not any("correct horse" in word for argv in seen for word in argv)


def test_highly_compressed_content_is_read_to_its_end(tmp_path):
    path = tmp_path / "a.gz"
    size = 50 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    path.write_bytes(packer.compress(bytes(size)) + packer.flush())
    for engine in ("isal", "zlib"):
        with contextlib.suppress(ImportError), open_container(path, runner=RUNNER, engine=engine) as stream:
            total = 0
            while True:
                data = stream.read(1 << 20)
                if not data:
                    break
                total += len(data)
            assert total == size
