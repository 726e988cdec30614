# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Virtual environments, each built in its final place beside the others, so that the one in use is never changed.

The name of an environment is the digest of all that decides what is in it. It is complete once its marker is there.
Everything in it is made and removed by its owner: root writes nothing where the owner can put a symlink.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from ...deploy_settings import Dependencies
from ...errors import CommandError, TradekeepError
from ...formatting import output_text, pasted
from ...host.account import Account, command_as, environment_of
from ...host.files import atomic_write, open_directory_beneath, os_errors, os_errors_but_absence
from ...host.filesystem.given import give_directory
from ...host.filesystem.identity import privileged
from ...host.ownership import name_of_uid
from ...ports import Ports, Said
from .lock_file import digest_of

ENVIRONMENTS = ".tradekeep-venvs"
"""The directory of all environments in the checkout."""
MARKER = ".tradekeep-complete"
REPLACED = "replaced-"
"""What the name of a directory begins with that made way for the link, and is kept beside the environments."""

_KEY = re.compile(r"[0-9a-f]{16}")
_BUILD_SECONDS = 3600.0
_KEPT_BYTES = 1024 * 1024
_SHOWN_LINES = 3
_SHOWN_CHARACTERS = 600
_IDENTITY = (
    "import platform, sys, sysconfig;"
    "print(sys.implementation.name, platform.python_version(), sysconfig.get_config_var('SOABI'),"
    " platform.machine(), sys.base_prefix)"
)


@dataclass(frozen=True)
class EnvironmentPlan:
    """The environment that belongs to a commit, and whether it is there already."""

    key: str
    directory: Path
    complete: bool
    python: str


@dataclass(frozen=True)
class BuiltEnvironment:
    """What the symlink must lead to. ``log`` holds the output of what was run, if anything was."""

    key: str
    directory: str
    built: bool
    seconds: float
    log: Optional[str]

    def as_dict(self) -> dict[str, Any]:
        """The environment as the record of a deploy shows it."""
        return asdict(self)


class Environments:
    """The virtual environments of an application.

    checkout: the directory that holds them; for releases the one above the releases.
    """

    def __init__(self, wanted: Dependencies, *, checkout: Path, account: Account, ports: Ports) -> None:
        self._wanted = wanted
        self._checkout = checkout
        self._account = account
        self._ports = ports

    @property
    def link(self) -> Path:
        """Where the application looks for its environment."""
        return self._checkout / self._wanted.environment

    @property
    def directory(self) -> Path:
        """Where the environments are."""
        return self._checkout / ENVIRONMENTS

    def plan(self, source: Path) -> EnvironmentPlan:
        """What the commit that lies in source needs. Writes nothing; raises where it could not be built."""
        python = self._identity()
        digest = hashlib.sha256(digest_of(source, self._wanted.lock_file, self._wanted.arguments).encode())
        digest.update(python.encode())
        key = digest.hexdigest()[:16]
        directory = self.directory / key
        self._check_directory()
        complete = self._is_complete(directory)
        if not complete:
            self._require_venv()
        return EnvironmentPlan(key=key, directory=directory, complete=complete, python=python)

    def check_python(self) -> None:
        """Whether an environment can be made on this host at all; raises CommandError with what is missing."""
        self._identity()
        self._require_venv()

    def build(self, plan: EnvironmentPlan, source: Path, *, log: Path) -> BuiltEnvironment:
        """Make the environment unless it is complete; what an earlier build left unfinished is thrown away first.

        source: what plan was made for. log: a file for the output, written with mode 0600.
        """
        if self._is_complete(plan.directory):
            return BuiltEnvironment(plan.key, str(plan.directory), built=False, seconds=0.0, log=None)
        begun = self._ports.clock.monotonic()
        self._make_directory()
        self._remove(plan.directory)
        try:
            self._ports.step("build environment")
            self._fill(plan.directory, source, log)
            self._ports.step("complete environment")
            # The marker must not survive a power cut that the files did not.
            self._must("cannot be made durable", "sync", "--file-system", str(plan.directory))
            self._must("cannot be marked complete", "touch", str(plan.directory / MARKER))
        except BaseException:
            with contextlib.suppress(TradekeepError):
                self._remove(plan.directory)
            raise
        seconds = round(self._ports.clock.monotonic() - begun, 3)
        return BuiltEnvironment(plan.key, str(plan.directory), built=True, seconds=seconds, log=str(log))

    def prune(self, keep: Iterable[str]) -> tuple[str, ...]:
        """Remove the environments whose keys are not to be kept, except the one in use. Returns the removed keys."""
        kept = {*keep, os.path.basename(os.path.realpath(self.link))}
        try:
            with os_errors_but_absence(self.directory):
                names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return ()
        removed = [name for name in names if _KEY.fullmatch(name) and name not in kept]
        for name in removed:
            self._remove(self.directory / name)
        return tuple(removed)

    def _identity(self) -> str:
        python = self._wanted.python
        said = self._run([python, "-I", "-c", _IDENTITY], directory="/", seconds=60)
        if said.status != 0:
            raise CommandError(
                f"cannot be run by {self._account.name}: {said.last_line or said.status}",
                path=python,
                hint="install it, or set deploy.dependencies.python",
            )
        return said.last_line

    def _require_venv(self) -> None:
        """Debian has the module that puts pip into an environment in a package of its own."""
        python = self._wanted.python
        said = self._run([python, "-I", "-c", "import ensurepip, venv"], directory="/", seconds=60)
        if said.status != 0:
            raise CommandError(
                f"cannot make a virtual environment: {said.last_line or said.status}",
                path=python,
                hint=how_to_get_venv(python),
            )

    def _is_complete(self, directory: Path) -> bool:
        """Whether the marker is there and the interpreter still works: an upgrade of the system may have removed it."""
        if os.path.islink(directory) or not os.path.exists(directory / MARKER):
            return False
        return self._run([str(directory / "bin/python"), "-I", "-c", ""], directory="/", seconds=60).status == 0

    def _check_directory(self) -> None:
        """No symlink may lie in the place of the directory of all environments."""
        with contextlib.suppress(FileNotFoundError), os_errors_but_absence(self.directory):
            os.close(open_directory_beneath(os.path.realpath(self._checkout), ENVIRONMENTS))

    def _make_directory(self) -> None:
        if not give_directory(Path(os.path.realpath(self._checkout), ENVIRONMENTS), self._account, mode=0o755):
            self._check_directory()

    def _fill(self, directory: Path, source: Path, log: Path) -> None:
        wanted = self._wanted
        created = self._run([wanted.python, "-I", "-m", "venv", str(directory)], directory="/", seconds=_BUILD_SECONDS)
        output = created.output
        try:
            if created.status != 0:
                raise _failure("python -m venv", created, log)
            # -I: a module of the repository must not pass for pip or for what it imports.
            python = [str(directory / "bin/python"), "-I"]
            pip = [*python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
            lock_file = str(source / wanted.lock_file)
            installed = self._run(
                [*pip, *wanted.arguments, "-r", lock_file], directory=str(source), seconds=_BUILD_SECONDS
            )
            output += installed.output
            if installed.status != 0:
                raise _failure("pip install", installed, log)
        finally:
            with privileged():
                atomic_write(log, output_text(output).encode("utf-8"), mode=0o600)

    def _remove(self, directory: Path) -> None:
        # The marker goes first: what is half removed must not look complete.
        self._must("cannot be removed", "rm", "-f", "--", str(directory / MARKER))
        self._must("cannot be removed", "rm", "-rf", "--one-file-system", "--", str(directory))

    def _must(self, what: str, *argv: str) -> None:
        said = self._run(list(argv), directory="/", seconds=600)
        if said.status != 0:
            raise CommandError(f"{what}: {said.last_line or said.status}", path=argv[-1])

    def _run(self, argv: list[str], *, directory: str, seconds: float) -> Said:
        return self._ports.runner.listen(
            command_as(self._account, argv, directory=directory),
            environment=environment_of(self._account),
            timeout_seconds=seconds,
            keep_bytes=_KEPT_BYTES,
        )


def check_link(link: Path, *, adopter: Optional[Account] = None) -> Optional[str]:
    """Where the symlink of the environment leads now, None where there is none; anything else there is refused.

    adopter: the account that sets a directory aside which lies there; it has to be its own.
    """
    with os_errors(link):
        try:
            found = link.lstat()
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(found.st_mode):
            return os.readlink(link)
    if not stat.S_ISDIR(found.st_mode):
        raise _no_link("a file", link, f"move it away: {pasted('mv', link, f'{link}.old')}")
    if adopter is None:
        way_out = "with --adopt (deploy_adopt=true) it makes way for the link in the same exchange, and is kept"
        raise _no_link("a real directory", link, way_out)
    if os.path.ismount(link):
        raise _no_link("a mount point", link, "name another in deploy.dependencies.environment and in the unit")
    if found.st_uid != adopter.uid:
        raise _no_link(f"a directory of {name_of_uid(found.st_uid)}", link, f"chown -R {adopter.as_argument} {link}")
    return None


def _no_link(what: str, link: Path, hint: str) -> TradekeepError:
    return TradekeepError(f"is {what}, where a symlink to the environment of each deploy belongs", path=link, hint=hint)


def _failure(what: str, said: Said, log: Path) -> CommandError:
    how = "ran out of time" if said.status is None else f"failed with exit status {said.status}"
    return CommandError(f"{what} {how}: {_last_words(said.output)}", hint=f"its output is in {log}")


def how_to_get_venv(python: str) -> str:
    """On Debian and Ubuntu; a Python that was built by hand has the module, unless somebody left it out."""
    name = os.path.basename(python)
    if re.fullmatch(r"python3(\.\d+)?", name) and python in (name, f"/usr/bin/{name}"):
        return f"apt install {name}-venv"
    return "install its modules venv and ensurepip, or set deploy.dependencies.python"


def _last_words(output: str) -> str:
    """What pip calls errors, else its last lines."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return " / ".join((errors or lines)[-_SHOWN_LINES:])[-_SHOWN_CHARACTERS:]
