# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Real repositories: an upstream, a checkout, the mirror; as ourselves and, for root, as another owner."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git.checkout import Checkout
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git.mirror import Mirror
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import Account, command_as
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner

WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com"}
WHO.update({"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com"})
ODD = "new\nline \udcff\t*.x"


class Repository:
    """Plain git, as a person uses it."""

    def __init__(self, directory: Path, account: Account) -> None:
        self.directory = directory
        self.account = account

    def git(self, *arguments: str, check: bool = True, **environment: str) -> str:
        argv = command_as(
            self.account, ["git", "-c", "protocol.file.allow=always", *arguments], directory=str(self.directory)
        )
        surroundings = {"HOME": self.account.home, **WHO, **environment}
        return SubprocessRunner().run(argv, environment=surroundings, check=check).stdout.strip()

    def write(self, files: dict[str, str | None]) -> None:
        for name, content in files.items():
            path = self.directory / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode("utf-8", "surrogateescape"))
        self.give()

    def give(self) -> None:
        if os.geteuid() == 0:
            for parent, names, entries in os.walk(self.directory):
                for name in ("", *names, *entries):
                    os.chown(os.path.join(parent, name), self.account.uid, self.account.gid, follow_symlinks=False)

    def commit(self, files: dict[str, str | None] | None = None, *options: str) -> str:
        self.write(files or {})
        self.git("add", "--all", "--force", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", "change", *options)
        return self.git("rev-parse", "HEAD")


class World:
    def __init__(self, place: Path, account: Account) -> None:
        self.place = place
        self.account = account
        self.runner = SubprocessRunner()
        self.upstream = self.repository("upstream")
        self.upstream.git("init", "--quiet", "--initial-branch=main")
        self.mirror = Mirror.of(self.runner, account, state_dir=place / "state", application="bot")

    @property
    def url(self) -> str:
        return str(self.upstream.directory)

    def repository(self, name: str) -> Repository:
        return Repository(self.directory(name), self.account)

    def directory(self, name: str) -> Path:
        path = self.place / name
        path.mkdir()
        if os.geteuid() == 0:
            os.chown(path, self.account.uid, self.account.gid)
        return path

    def fetched(self) -> Mirror:
        self.mirror.ensure()
        self.mirror.fetch(self.url)
        return self.mirror

    def clone(self, *options: str) -> Repository:
        live = self.repository("live")
        live.git("clone", "--quiet", *options, f"file://{self.url}", ".")
        return live

    def checkout(self, live: Repository) -> Checkout:
        found = Checkout.at(self.runner, self.account, live.directory)
        assert found is not None
        return found

    def listing(self) -> dict[str, tuple[int, int, int, int]]:
        """Everything there is, with all that a write would change."""
        found: dict[str, tuple[int, int, int, int]] = {}
        for parent, names, files in os.walk(self.place):
            for name in ("", *names, *files):
                facts = os.lstat(os.path.join(parent, name))
                found[os.path.join(parent, name)] = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_mode)
        return found


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Repositories of an unprivileged account when root runs this, else of whoever does.

    With ``parametrize("world", ["self", "other"], indirect=True)`` root has repositories of its own too.
    """
    wanted = getattr(request, "param", "other")
    if wanted == "self" and os.geteuid() != 0:
        pytest.skip("only root has two accounts to try")
    place = Path(tempfile.mkdtemp(prefix="tradekeep-test-"))
    place.chmod(0o755)
    other = wanted == "other" and os.geteuid() == 0
    uid = pwd.getpwnam("nobody").pw_uid if other else os.geteuid()
    entry = pwd.getpwuid(uid)
    home = place / "home"
    home.mkdir()
    if os.geteuid() == 0:
        os.chown(home, uid, entry.pw_gid)
    try:
        yield World(place, Account(entry.pw_name, uid, entry.pw_gid, str(home)))
    finally:
        shutil.rmtree(place)
