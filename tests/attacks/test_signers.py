# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Signers whose time is over and who date their commits back; real ssh and gpg keys."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus, FindingsError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git.mirror import Mirror
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import Account, command_as
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner

THEN = "2020-06-01T00:00:00Z"
FAKED = "20200601T000000!"
LIVING = "20200101T000000!"


class Upstream:
    """A repository of the attacker's, who owns signing keys and sets every date as he likes."""

    def __init__(self, place: Path, account: Account) -> None:
        self.place = place
        self.account = account
        self.directory = self.made("upstream")
        self.gpg_home = self.made("g", 0o700)
        self.git("init", "--quiet", "--initial-branch=main")

    def made(self, name: str, mode: int = 0o755) -> Path:
        path = self.place / name
        path.mkdir()
        path.chmod(mode)
        os.chown(path, self.account.uid, self.account.gid)
        return path

    def run(self, *argv: str, **environment: str) -> str:
        who = {"HOME": str(self.place / "g"), "GNUPGHOME": str(self.gpg_home), "PATH": os.environ["PATH"]}
        for role in ("AUTHOR", "COMMITTER"):
            who.update({f"GIT_{role}_NAME": "a", f"GIT_{role}_EMAIL": "a@example.com"})
        command = command_as(self.account, argv, directory=str(self.directory))
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env={**who, **environment}
        ).stdout.strip()

    def git(self, *arguments: str, **environment: str) -> str:
        return self.run("git", *arguments, **environment)

    def commit(self, key: str, *settings: str, when: str = THEN) -> None:
        """A signed commit that says it was made then."""
        options = [part for setting in settings for part in ("-c", setting)]
        self.git(
            *options,
            *("commit", "--quiet", "--allow-empty", "--message", "change", f"--gpg-sign={key}"),
            GIT_COMMITTER_DATE=when,
            GIT_AUTHOR_DATE=when,
        )

    def tag(self, key: str, *settings: str, when: str = THEN) -> None:
        options = [part for setting in settings for part in ("-c", setting)]
        self.git(*options, "tag", f"--local-user={key}", "--message", "release", "v1", GIT_COMMITTER_DATE=when)

    def ssh_key(self, name: str) -> Path:
        key = self.gpg_home / name
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key))
        return key

    def gpg(self, *arguments: str) -> str:
        return self.run("gpg", "--batch", "--quiet", "--passphrase", "", *arguments)

    def back_in_time(self, *options: str) -> str:
        """A gpg whose clock says what the attacker wants."""
        program = self.directory / "gpg-of-then"
        program.write_text(f'#!/bin/sh\nexec gpg --faked-system-time {FAKED} {" ".join(options)} "$@"\n')
        program.chmod(0o755)
        return f"gpg.program={program}"

    def mirror(self) -> Mirror:
        mirror = Mirror.of(SubprocessRunner(), self.account, state_dir=self.place / "state", application="bot")
        mirror.ensure()
        mirror.fetch(str(self.directory))
        return mirror

    def signers(self, *lines: str) -> Path:
        path = self.place / "signers"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o600)
        return path

    def keyring(self) -> Path:
        return self.signers(self.gpg("--armor", "--export"))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    if os.geteuid() != 0:
        pytest.skip("needs root: the repository belongs to another account")
    place = Path(tempfile.mkdtemp(prefix="tk-", dir="/tmp"))  # a socket of gpg-agent lies beneath
    place.chmod(0o755)
    nobody = pwd.getpwnam("nobody")
    made = Upstream(place, Account("nobody", nobody.pw_uid, nobody.pw_gid, str(place / "g")))
    yield made
    subprocess.run(command_as(made.account, ["gpgconf", "--homedir", str(made.gpg_home), "--kill", "all"]), check=False)
    shutil.rmtree(place)


def refused(mirror: Mirror, ref: str, signers: Path, why: str) -> None:
    with pytest.raises(FindingsError, match=why) as caught:
        mirror.verify_signature(mirror.resolve(ref), signers)
    assert caught.value.exit_status is ExitStatus.FINDINGS
    assert "\n" not in caught.value.message
    assert caught.value.hint


SSH = "gpg.format=ssh"


@pytest.mark.parametrize("until", ["20210101", "20210101Z", "202101010000"])
def test_an_ssh_signer_whose_time_is_over_dates_a_commit_back(upstream: Upstream, until: str) -> None:
    key = upstream.ssh_key("former")
    upstream.commit(str(key), SSH)
    signers = upstream.signers(f'former@example.com valid-before="{until}" {key.with_suffix(".pub").read_text()}')
    if (
        until.endswith("Z")
        and "invalid"
        in subprocess.run(
            ["ssh-keygen", "-Y", "find-principals", "-s", "/dev/null", "-f", str(signers)],
            check=False,
            capture_output=True,
            text=True,
        ).stderr
    ):
        pytest.skip("this ssh-keygen knows no times in UTC")
    refused(upstream.mirror(), "main", signers, "no good signature.*not valid now")


def test_an_ssh_signer_whose_time_is_over_dates_a_tag_back(upstream: Upstream) -> None:
    key = upstream.ssh_key("former")
    upstream.git("commit", "--quiet", "--allow-empty", "--message", "change")
    upstream.tag(str(key), SSH)
    signers = upstream.signers(f'former@example.com valid-before="20210101" {key.with_suffix(".pub").read_text()}')
    refused(upstream.mirror(), "v1", signers, "no good signature.*not valid now")


def test_a_line_for_something_else_does_not_prolong_the_time_of_a_signer(upstream: Upstream) -> None:
    """The key may still sign files, as another line says, and no commits."""
    key = upstream.ssh_key("former")
    public = key.with_suffix(".pub").read_text().strip()
    upstream.commit(str(key), SSH)
    signers = upstream.signers(
        f'former@example.com namespaces="git",valid-before="20210101" {public}',
        f'former@example.com namespaces="file" {public}',
    )
    refused(upstream.mirror(), "main", signers, "no good signature.*not valid now")


def test_the_certificate_of_a_signer_ends_with_its_own_time(upstream: Upstream) -> None:
    authority, key = upstream.ssh_key("authority"), upstream.ssh_key("former")
    upstream.run(
        *("ssh-keygen", "-q", "-s", str(authority), "-I", "former", "-n", "former@example.com"),
        *("-V", "20200101:20210101", str(key.with_suffix(".pub"))),
    )
    upstream.commit(f"{key}-cert.pub", SSH)
    public = authority.with_suffix(".pub").read_text()
    refused(upstream.mirror(), "main", upstream.signers(f"*@example.com cert-authority {public}"), "no good signature")


def test_a_signer_whose_time_has_not_come_dates_a_commit_ahead(upstream: Upstream) -> None:
    key = upstream.ssh_key("coming")
    upstream.commit(str(key), SSH, when="2090-06-01T00:00:00Z")
    signers = upstream.signers(f'coming@example.com valid-after="20900101" {key.with_suffix(".pub").read_text()}')
    refused(upstream.mirror(), "main", signers, "no good signature.*not valid now")


def test_an_ssh_signer_whose_time_lasts_signs_on(upstream: Upstream) -> None:
    """What is refused above is refused for its time alone; a renewed line counts for commits of before."""
    key = upstream.ssh_key("good")
    public = key.with_suffix(".pub").read_text().strip()
    upstream.commit(str(key), SSH)
    upstream.tag(str(key), SSH)
    odd = f'good@example.com valid-after="20190101",valid-before="20900101",namespaces="git" {public}'
    mirror = upstream.mirror()
    for ref, what in (("main", "commit"), ("v1", "tag")):
        found = mirror.verify_signature(mirror.resolve(ref), upstream.signers("# who may", odd))
        assert (found.what, found.format, found.signer) == (what, "ssh", "good@example.com")


def test_a_message_that_holds_another_signature_changes_nothing(upstream: Upstream) -> None:
    """The signature that is judged is the commit's own, not one that its text quotes."""
    good, former = upstream.ssh_key("good"), upstream.ssh_key("former")
    upstream.commit(str(good), SSH)
    quoted = upstream.git("cat-file", "commit", "HEAD")
    upstream.git(
        *("-c", SSH, "commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "--message", quoted),
        f"--gpg-sign={former}",
        GIT_COMMITTER_DATE=THEN,
    )
    signers = upstream.signers(
        f"good@example.com {good.with_suffix('.pub').read_text().strip()}",
        f'former@example.com valid-before="20210101" {former.with_suffix(".pub").read_text().strip()}',
    )
    mirror = upstream.mirror()
    refused(mirror, "main", signers, "no good signature.*not valid now")
    assert mirror.verify_signature(mirror.resolve(_parent(upstream)), signers).signer == ("good@example.com")


def _parent(upstream: Upstream) -> str:
    return upstream.git("rev-parse", "HEAD~1")


def test_an_expired_gpg_key_dates_a_commit_back(upstream: Upstream) -> None:
    upstream.gpg(
        "--faked-system-time", LIVING, "--quick-generate-key", "former <f@example.com>", "ed25519", "sign", "1y"
    )
    upstream.commit("f@example.com", upstream.back_in_time())
    refused(upstream.mirror(), "main", upstream.keyring(), "no good signature.*expired")


@pytest.mark.parametrize(("primary", "signing"), [("never", "1y"), ("1y", "never")])
def test_an_expired_part_of_a_gpg_key_dates_a_commit_back(upstream: Upstream, primary: str, signing: str) -> None:
    then = ("--faked-system-time", LIVING)
    upstream.gpg(*then, "--quick-generate-key", "former <f@example.com>", "ed25519", "cert", primary)
    told = upstream.gpg("--list-keys", "--with-colons", "f@example.com")
    number = next(line.split(":")[9] for line in told.splitlines() if line.startswith("fpr"))
    upstream.gpg(*then, "--quick-add-key", number, "ed25519", "sign", signing)
    upstream.commit("f@example.com", upstream.back_in_time())
    refused(upstream.mirror(), "main", upstream.keyring(), "no good signature.*expired")


def test_a_revoked_gpg_key_dates_a_commit_back(upstream: Upstream) -> None:
    upstream.gpg(
        "--faked-system-time", LIVING, "--quick-generate-key", "former <f@example.com>", "ed25519", "sign", "never"
    )
    upstream.commit("f@example.com", upstream.back_in_time())
    (paper,) = (upstream.gpg_home / "openpgp-revocs.d").iterdir()
    paper.write_text(paper.read_text().replace(":-----", "-----"))
    upstream.gpg("--import", str(paper))
    refused(upstream.mirror(), "main", upstream.keyring(), "no good signature.*revoked")


def test_a_gpg_signature_whose_own_time_is_over(upstream: Upstream) -> None:
    upstream.gpg(
        "--faked-system-time", LIVING, "--quick-generate-key", "good <f@example.com>", "ed25519", "sign", "never"
    )
    upstream.commit("f@example.com", upstream.back_in_time("--default-sig-expire 1m"))
    refused(upstream.mirror(), "main", upstream.keyring(), "no good signature.*expired")
