# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Git as the owner of the application: nothing that a repository brings along runs, least of all as root."""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from ..errors import CommandError, TradekeepError
from ..host.account import Account, command_as, environment_of
from ..host.files import os_errors, write_all
from ..host.filesystem.identity import acting_as, privileged
from ..host.filesystem.scratch import scratch_directory, sweep
from ..ports import Completed, Pipe, Runner
from .failures import failure_of
from .urls import mask_url

GIT = "git"
LOCAL_SECONDS = 900.0
NETWORK_SECONDS = 1800.0
# What a repository's own configuration could start, or change behind our back.
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=0",
    "protocol.ext.allow=never",
    "protocol.file.allow=always",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "core.autocrlf=false",
    "core.quotePath=true",
    "color.ui=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "advice.detachedHead=false",
)
# Answers with what the environment holds, which no other account can read (unlike a command line).
_ASKED = '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$TRADEKEEP_USER" "$TRADEKEEP_PASSWORD"; }; f'
_PURPOSE = "git"
_Path = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Transport:
    """How the owner logs in over ssh. Without a file, what the owner's own ssh configuration says."""

    ssh_key_file: Optional[str] = None
    known_hosts_file: Optional[str] = None

    @property
    def ssh_command(self) -> str:
        """GIT_SSH_COMMAND: never asks, never trusts an unknown host."""
        argv = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"]
        if self.known_hosts_file:
            argv += ["-o", f'UserKnownHostsFile="{self.known_hosts_file.replace("%", "%%")}"']
        if self.ssh_key_file:
            argv += ["-o", "IdentitiesOnly=yes", "-i", self.ssh_key_file.replace("%", "%%")]
        return shlex.join(argv)


class Git:
    """Git for one repository. Paths and names are ``str`` with surrogateescape; output is bytes where names are in it.

    The directory of the repository is always given, so that git never looks for one in a parent; see checkout.py for
    the check of owners that this leaves out.
    """

    def __init__(
        self,
        runner: Runner,
        account: Account,
        *,
        git_dir: _Path,
        work_tree: Optional[_Path] = None,
        environment: Optional[Mapping[str, str]] = None,
        settings: Iterable[str] = (),
    ) -> None:
        self.runner = runner
        self.account = account
        self.git_dir = Path(git_dir)
        self.work_tree = None if work_tree is None else Path(work_tree)
        self._environment = dict(environment or {})
        self._settings = tuple(settings)

    def also(
        self,
        *,
        git_dir: Optional[_Path] = None,
        work_tree: Optional[_Path] = None,
        environment: Optional[Mapping[str, str]] = None,
        settings: Iterable[str] = (),
    ) -> Git:
        """The same with something more: an index file, a work tree, settings."""
        return Git(
            self.runner,
            self.account,
            git_dir=git_dir or self.git_dir,
            work_tree=work_tree or self.work_tree,
            environment={**self._environment, **(environment or {})},
            settings=(*self._settings, *settings),
        )

    def with_credentials(self, user: str, password: str) -> Git:
        """The same, which answers with these when a server of https asks."""
        return self.also(
            environment={"TRADEKEEP_USER": user, "TRADEKEEP_PASSWORD": password},
            settings=("credential.helper=", f"credential.helper={_ASKED}"),
        )

    def run(
        self,
        *arguments: str,
        names: Optional[Iterable[str]] = None,
        text: Optional[str] = None,
        timeout_seconds: float = LOCAL_SECONDS,
        check: bool = True,
        path: Optional[object] = None,
    ) -> Completed:
        """Run git to its end. ``names`` go to standard input, each ended by a NUL; ``text`` as it is.

        Raises the engine's error unless check is false; ``path`` is what the error is about, the repository by default.
        """
        given = text if names is None else "".join(f"{name}\0" for name in names)
        try:
            completed = self.runner.run(
                self._argv(arguments),
                input_text=given,
                environment=self._surroundings(),
                timeout_seconds=timeout_seconds,
                check=False,
            )
        except CommandError as error:
            raise self._unstarted(error) from error
        if check and completed.status != 0:
            raise failure_of(completed.stderr, path=path or self.git_dir, status=completed.status)
        return completed

    def has_filter(self, name: str) -> bool:
        """Whether the filter of a name would do anything here (gitattributes(5))."""
        keys = (f"filter.{name}.smudge", f"filter.{name}.process")
        return any(self.run("config", "--get", key, check=False).status == 0 for key in keys)

    def read(self, *arguments: str, names: Optional[Iterable[str]] = None, text: Optional[bytes] = None) -> bytes:
        """All that git writes to standard output, as bytes. For work on this host alone."""
        given = (text or b"") if names is None else b"".join(os.fsencode(name) + b"\0" for name in names)
        with readable(given) as stdin:
            pipe = self._pipe(arguments, stdin=stdin)
            try:
                output: bytes = pipe.stdout.read()
            except BaseException:
                pipe.kill()
                raise
            finally:
                with contextlib.suppress(OSError):
                    pipe.stdout.close()
            self._finish(pipe)
        return output

    def write_to(self, descriptor: int, *arguments: str) -> None:
        """Let git write its standard output to what is open."""
        with readable(b"") as stdin:
            pipe = self._pipe(arguments, stdin=stdin, stdout=descriptor)
            self._finish(pipe)

    def fields(self, *arguments: str, names: Optional[Iterable[str]] = None, text: Optional[bytes] = None) -> list[str]:
        """What git writes with ``-z``: the fields between NULs."""
        return [os.fsdecode(field) for field in self.read(*arguments, names=names, text=text).split(b"\0")[:-1]]

    def _pipe(self, arguments: tuple[str, ...], *, stdin: int, stdout: Optional[int] = None) -> Pipe:
        try:
            return self.runner.pipe(self._argv(arguments), stdin=stdin, stdout=stdout, environment=self._surroundings())
        except CommandError as error:
            raise self._unstarted(error) from error

    def _finish(self, pipe: Pipe) -> None:
        try:
            pipe.finish()
        except CommandError as error:
            raise failure_of(error.message.partition(": ")[2] or error.message, path=self.git_dir) from error

    def _argv(self, arguments: tuple[str, ...]) -> list[str]:
        if self.runner.find(GIT) is None:
            raise CommandError("is not installed", path=GIT, hint="install git")
        argv = [GIT, f"--git-dir={self.git_dir}"]
        if self.work_tree is not None:
            argv.append(f"--work-tree={self.work_tree}")
        for setting in (*_SETTINGS, *self._settings):
            argv += ["-c", setting]
        return command_as(self.account, [*argv, *arguments])

    def _surroundings(self) -> dict[str, str]:
        return {
            **environment_of(self.account),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS_REQUIRE": "never",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_SSH_COMMAND": Transport().ssh_command,
            "GIT_SSH_VARIANT": "ssh",
            **self._environment,
        }

    def _unstarted(self, error: CommandError) -> TradekeepError:
        """What to say when git could not run to its end: a program is missing, or time is up."""
        if "is not installed" in error.message:
            return error
        return CommandError(f"git {mask_url(error.message)}", path=self.git_dir, hint=error.hint)


@contextlib.contextmanager
def readable(given: bytes) -> Iterator[int]:
    """A descriptor to read these bytes from; a file without a name, so that no thread must feed a pipe."""
    with privileged():
        file = tempfile.TemporaryFile()  # noqa: SIM115 (closed below, and not with root's rights)
    with file:
        write_all(file.fileno(), given)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        yield file.fileno()


def sweep_private_directories(account: Account) -> None:
    """Remove what killed processes left of an account's."""
    with contextlib.suppress(TradekeepError):
        sweep(tempfile.gettempdir(), purpose=_PURPOSE, account=account)


@contextlib.contextmanager
def private_directory(account: Account, files: Optional[Mapping[str, bytes]] = None) -> Iterator[Path]:
    """A temporary directory of the owner's, mode 0700, with some files in it; removed afterwards.

    Made, filled and removed by the owner, to whom root gives nothing that it could have exchanged.
    """
    with scratch_directory(tempfile.gettempdir(), _PURPOSE, account=account) as directory:
        with acting_as(account), os_errors(directory):
            for name, content in (files or {}).items():
                descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
                with open(descriptor, "wb") as file:
                    file.write(content)
        yield directory
