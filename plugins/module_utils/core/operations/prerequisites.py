# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What an application needs of its host before anything else is put there: looked at as a whole, then made.

All that is wrong is found at once. As long as anything is, nothing is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..application import Application
from ..errors import ConfigurationError, ExitStatus, SpaceError, TradekeepError
from ..host.distribution import SUPPORTED, system_name
from ..host.files import space
from ..host.masking import UNIT_DIR
from ..host.ownership import gid_of, uid_of
from ..ports import Ports
from .accounts import AccountPlan, account_notes, account_problems, home_of, make_accounts, plan_accounts
from .bot_units import UnitFile, unit_problems
from .code_access import access_problems
from .configured import directory_problems
from .outcome import Outcome
from .packages import (
    Package,
    has_dpkg,
    missing_packages,
    named_packages,
    needed_packages,
    unknown_packages,
)
from .takeover import foreign_owner
from .text import human_bytes


@dataclass(frozen=True)
class ExpectedFile:
    """A file that is going to be put on the host."""

    path: str
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class Wanted:
    """What is asked of the host beyond the application itself.

    accounts: whether owner and group are made. packages: more of them, by name. files: what will be put there.
    brought: files that the configuration refers to and that will be put there too. existing: files that must be there
    already. space: bytes of data that will be put below the root. code: whether the code has to be fetched.
    take_over: whether data of another account is taken over. units: those that will run the bot. unit_dir: where to.
    """

    accounts: bool = True
    packages: tuple[str, ...] = ()
    files: tuple[ExpectedFile, ...] = ()
    brought: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()
    space: int = 0
    code: bool = False
    take_over: bool = False
    units: tuple[UnitFile, ...] = ()
    unit_dir: str = str(UNIT_DIR)


def prepare_host(application: Application, ports: Ports, wanted: Wanted, *, dry_run: bool = False) -> Outcome:
    """Make the account and the group where they are missing; say which packages and directories are.

    Status USAGE, with every problem in the record, where something is not as it has to be: then nothing is made.
    """
    plan = plan_accounts(application)
    required = (*needed_packages(application), *named_packages(wanted.packages)) if application.has_units else ()
    missing = missing_packages(required, ports.runner)
    unknown = unknown_packages(missing, ports.runner) if application.system else ()
    problems = [str(error) for error in _problems(application, ports, wanted, plan, missing, unknown)]
    if application.system and not problems:
        for note in (*account_notes(plan), *_system_notes(missing, unknown, ports)):
            ports.progress.note(note)
    for note in _packages_of_root(application, missing):
        ports.progress.note(note)
    makes = application.system and wanted.accounts and plan.missing
    if makes and not problems and not dry_run:
        make_accounts(plan, ports)
    installs = application.system and has_dpkg(ports.runner)
    record = {
        "account": {"name": plan.owner, "missing": plan.owner_missing},
        "group": {"name": plan.group, "missing": plan.group_missing},
        "packages": [item.name for item in missing if installs and not item.optional],
        "optional_packages": [item.name for item in missing if installs and item.optional and item not in unknown],
        "directories": sorted({parent for item in wanted.files if not os.path.isdir(parent := _parent(item))}),
        "problems": problems,
    }
    return Outcome(
        changed=makes and not problems,
        record=record,
        lines=tuple(problems) or tuple(_lines(plan, makes=makes)),
        before=plan.facts(made=False) if makes else {},
        after=plan.facts(made=True) if makes else {},
        status=ExitStatus.USAGE if problems else ExitStatus.DONE,
    )


def _problems(
    application: Application,
    ports: Ports,
    wanted: Wanted,
    plan: AccountPlan,
    missing: Sequence[Package],
    unknown: Sequence[Package],
) -> Iterator[TradekeepError]:
    if application.system:
        yield from _package_problems(missing, unknown, ports)
        yield from account_problems(application, plan, makes=wanted.accounts)
        foreign = None if wanted.take_over else foreign_owner(application)
        if foreign is not None:
            yield foreign
    elif application.user_units:
        yield from _problems_without_root(missing)
    yield from directory_problems(application)
    yield from _key_problems(application, wanted)
    for path in wanted.existing:
        if not os.path.isfile(path):
            yield TradekeepError("there is no such file on the host", path=path)
    for item in wanted.files:
        yield from _file_problems(item, plan, wanted)
    if wanted.code:
        brought = {item.path: "" for item in wanted.files}
        yield from access_problems(application, home_of(plan), brought, os.path.isfile)
    yield from unit_problems(application, ports, wanted.units, Path(wanted.unit_dir))
    yield from _space_problems(application, wanted)


def _package_problems(missing: Sequence[Package], unknown: Sequence[Package], ports: Ports) -> Iterator[TradekeepError]:
    required = [item for item in missing if not item.optional]
    if required and not has_dpkg(ports.runner):
        needed = " and ".join(f"{item.name} ({item.purpose})" for item in required)
        yield ConfigurationError(
            f"{SUPPORTED}; without dpkg and apt-get no package is installed, and {needed} is missing",
            path=system_name(),
            hint="install it by hand, then run it again",
        )
    for item in unknown:
        if not item.optional:
            yield ConfigurationError(
                "apt knows no such package", path=item.name, hint="correct the name, or run apt-get update on the host"
            )


def _problems_without_root(missing: Sequence[Package]) -> Iterator[TradekeepError]:
    """Packages can only be named: root has to install them."""
    required = [item for item in missing if not item.optional]
    if required:
        names = " ".join(item.name for item in required)
        yield ConfigurationError(
            f"missing on the host: {', '.join(f'{item.name} ({item.purpose})' for item in required)}",
            path="packages",
            hint=f"without root none is installed: have root run apt-get install {names}",
        )


def _packages_of_root(application: Application, missing: Sequence[Package]) -> Iterator[str]:
    """What could be better, said once: before the application is configured."""
    if not application.user_units or os.path.exists(application.config_file):
        return
    for item in missing:
        if item.optional:
            yield f"{item.name} ({item.purpose}) is missing, and all works without; root can install it"


def _system_notes(missing: Sequence[Package], unknown: Sequence[Package], ports: Ports) -> Iterator[str]:
    if has_dpkg(ports.runner):
        yield from (f"apt knows no package {item.name} ({item.purpose}); all works without" for item in unknown)
        return
    left_out = "".join(f"; {item.name} ({item.purpose}) is missing" for item in missing)
    yield f"{system_name()}: {SUPPORTED}; here nothing is installed by packages{left_out}"


def _key_problems(application: Application, wanted: Wanted) -> Iterator[TradekeepError]:
    """Files that backups are encrypted with and that nobody brings."""
    encryption = application.encryption
    files = [("recipient's key file", path) for path in encryption.recipients if "/" in path]
    files += [("passphrase file", encryption.passphrase_file)] if encryption.passphrase_file else []
    for what, path in files:
        if path not in wanted.brought and not os.path.isfile(path):
            yield ConfigurationError(f"the {what} does not exist", path=path, hint="put it there first")


def _file_problems(item: ExpectedFile, plan: AccountPlan, wanted: Wanted) -> Iterator[TradekeepError]:
    if not item.path.startswith("/") or item.path.endswith("/"):
        yield ConfigurationError("expected the absolute path of a file", path=item.path)
    elif os.path.isdir(item.path):
        yield ConfigurationError("is a directory on the host", path=item.path, hint="name the file in it")
    for find, name, made in ((uid_of, item.owner, plan.owner), (gid_of, item.group, plan.group)):
        if name == made and wanted.accounts:
            continue
        try:
            find(name)
        except TradekeepError as error:
            yield ConfigurationError(f"cannot belong to {name}: {error.message}", path=item.path, hint=error.hint)


def _parent(item: ExpectedFile) -> str:
    return os.path.dirname(item.path)


def _space_problems(application: Application, wanted: Wanted) -> Iterator[TradekeepError]:
    if not wanted.space:
        return
    free = space(Path(application.root)).bytes_free
    if free < wanted.space:
        yield SpaceError(
            f"{human_bytes(wanted.space)} needed for the data and {human_bytes(free)} free",
            path=application.root,
            hint="take a larger disk",
        )


def _lines(plan: AccountPlan, *, makes: bool) -> Iterator[str]:
    if makes and plan.group_missing:
        yield f"group {plan.group}: made"
    if makes and plan.owner_missing:
        yield f"account {plan.owner}: made"
