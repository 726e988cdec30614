# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The packages of Debian that an application needs: the one place that decides which, and which of them are missing.

Where there is no dpkg, programs are looked for instead, so that what is missing can at least be named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..application import Application
from ..errors import CommandError
from ..ports import Runner

DPKG, APT = "dpkg-query", "apt-get"
_PYTHON = re.compile(r"python3(\.\d+)?")
_OVER_SSH = re.compile(r"(?i)(?:ssh|git\+ssh)://|[A-Za-z0-9_.-]+@?[A-Za-z0-9_.-]*:(?!//)")
_SECONDS = 60.0


@dataclass(frozen=True)
class Package:
    """A package. purpose: what it is for. found_by: a command that works where it is installed; of one word, only
    looked for; empty where nothing tells. optional: everything works without it, more slowly."""

    name: str
    purpose: str
    found_by: tuple[str, ...] = ()
    optional: bool = False


def needed_packages(application: Application) -> tuple[Package, ...]:
    """What backups and deploys of an application need, the required ones first, each once."""
    found: dict[str, Package] = {}
    for package in _needed(application):
        if package.name not in found or found[package.name].optional:
            found[package.name] = package
    return tuple(sorted(found.values(), key=lambda package: package.optional))


def named_packages(names: Iterable[str]) -> tuple[Package, ...]:
    """Packages that somebody asks for by name."""
    return tuple(Package(name, "asked for") for name in names)


def missing_packages(packages: Sequence[Package], runner: Runner) -> tuple[Package, ...]:
    """Those that are not installed, as dpkg says, or as their programs say where there is no dpkg."""
    if not packages:
        return ()
    if not has_dpkg(runner):
        return tuple(package for package in packages if not _works(package, runner))
    installed = _installed([package.name for package in packages], runner)
    return tuple(package for package in packages if package.name not in installed)


def has_dpkg(runner: Runner) -> bool:
    """Whether packages can be installed here."""
    return runner.find(DPKG) is not None and runner.find(APT) is not None


def unknown_packages(packages: Sequence[Package], runner: Runner) -> tuple[Package, ...]:
    """Those that apt's lists do not have; none where there are no lists yet, as on a new image."""
    if not packages or not has_dpkg(runner) or runner.find("apt-cache") is None:
        return ()
    # The main list is there when it has a package that every system has.
    names = [package.name for package in packages]
    said = runner.run(("apt-cache", "policy", "base-files", *names), check=False, timeout_seconds=_SECONDS).stdout
    sections = dict(re.findall(r"(?m)^(\S+):\n((?:[ \t].*\n?)*)", said))
    if not re.search(r"(?m)^ +\d+ [a-z+]+:/", sections.get("base-files", "")):
        return ()
    return tuple(package for package in packages if not _has_candidate(sections.get(package.name, "")))


def _has_candidate(section: str) -> bool:
    found = re.search(r"(?m)^ +Candidate: (.+)$", section)
    return found is not None and found[1] != "(none)"


def _needed(application: Application) -> Iterator[Package]:
    profile = application.profile
    encrypts = application.encryption.configured
    yield Package("gnupg", "encryption", ("gpg",), optional=not encrypts)
    if profile.compression == "zstd":
        yield Package("zstd", "compression", ("zstd",))
    else:
        yield Package("isal", "faster compression", ("igzip",), optional=True)
    if profile.deploy.repository or profile.deploy.dependencies:
        yield from _needed_to_deploy(application, profile.deploy.repository or "")


def _needed_to_deploy(application: Application, repository: str) -> Iterator[Package]:
    deploy = application.profile.deploy
    yield Package("git", "deploys", ("git",))
    if repository.lower().startswith("https://"):
        # git only recommends it, and trusts no server without.
        yield Package("ca-certificates", "fetching the code over https")
    elif _OVER_SSH.match(repository):
        yield Package("openssh-client", "fetching the code over ssh", ("ssh",))
    if deploy.signers:
        yield Package("gnupg", "signatures of commits", ("gpg",))
        yield Package("openssh-client", "signatures of commits", ("ssh-keygen",))
    if deploy.dependencies is not None:
        python = PurePosixPath(deploy.dependencies.python)
        # Any other Python is not Debian's, which takes venv out of it.
        if _PYTHON.fullmatch(python.name) and str(python.parent) in (".", "/usr/bin", "/bin"):
            works = (str(python), "-I", "-c", "import ensurepip, venv")
            yield Package(f"{python.name}-venv", "the virtual environment (deploy.dependencies)", works)


def _installed(names: Sequence[str], runner: Runner) -> set[str]:
    argv = (DPKG, "--show", "--showformat", "${Package} ${db:Status-Status}\\n", *names)
    # Its status only says that one of them is unknown here.
    said = runner.run(argv, check=False, timeout_seconds=_SECONDS).stdout
    return {name for name, _blank, state in (line.partition(" ") for line in said.splitlines()) if state == "installed"}


def _works(package: Package, runner: Runner) -> bool:
    if not package.found_by:
        return True
    if runner.find(package.found_by[0]) is None:
        return False
    try:
        return len(package.found_by) == 1 or runner.run(package.found_by, check=False, timeout_seconds=30).status == 0
    except CommandError:
        return False
