# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a deploy finds only while it is carried out, found by a dry run: the backup, the environment, the services."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ...application import Application
from ...deploy_settings import BackupFirst, Dependencies
from ...errors import CommandError, TradekeepError
from ...git.mirror import Mirror
from ...git.process import GIT, private_directory
from ...host.account import Account
from ...ports import Ports
from ..code_access import require_key
from ..controller import services_of
from .dependencies import Environments
from .survey import Survey

_LARGEST_LOCK_FILE = 1 << 20
_LOCK_FILES = (".txt", ".in", ".lock")


def rehearse(survey: Survey, mirror: Mirror, ports: Ports) -> Iterator[TradekeepError]:
    """What would fail, of all that can be known without doing it."""
    application, deploy = survey.application, survey.application.profile.deploy
    if deploy.backup_first is not BackupFirst.NONE:
        yield from _failures(lambda: _rehearse_backup(application, ports))
    if not survey.plan.refused:
        yield from _failures(lambda: mirror.try_filters(survey.target.commit, survey.exported))
    dependencies = deploy.dependencies
    if dependencies is not None:
        yield from _failures(lambda: _rehearse_environment(survey, dependencies, mirror, ports))
    yield from _failures(services_of(application, ports).snapshot)


def lacking_programs(application: Application, account: Account, ports: Ports) -> Iterator[TradekeepError]:
    """What the host lacks for the deploys of an application, whatever is deployed."""
    deploy = application.profile.deploy
    if deploy.repository and ports.runner.find(GIT) is None:
        yield CommandError("is not installed", path=GIT, hint="apt install git")
    yield from _failures(lambda: require_key(application, account))
    dependencies = deploy.dependencies
    if dependencies is not None:
        environments = Environments(dependencies, checkout=Path(application.checkout), account=account, ports=ports)
        yield from _failures(environments.check_python)


def _rehearse_backup(application: Application, ports: Ports) -> None:
    # All that makes backups is loaded where it is needed alone.
    from .backup_first import rehearse_backup

    rehearse_backup(application, ports)


def _rehearse_environment(survey: Survey, dependencies: Dependencies, mirror: Mirror, ports: Ports) -> None:
    checkout = Path(survey.application.checkout)
    environments = Environments(dependencies, checkout=checkout, account=survey.account, ports=ports)
    try:
        _plan_environment(survey, environments, mirror, _likely_lock_files(survey, dependencies, mirror))
    except TradekeepError:
        # A file of requirements may name any other; with all of the commit there the answer is the real one.
        _plan_environment(survey, environments, mirror, survey.exported)


def _plan_environment(survey: Survey, environments: Environments, mirror: Mirror, paths: Iterable[str]) -> None:
    with private_directory(survey.account) as scratch:
        mirror.export(survey.target.commit, paths, scratch)
        environments.plan(scratch)


def _likely_lock_files(survey: Survey, dependencies: Dependencies, mirror: Mirror) -> list[str]:
    exported = frozenset(survey.exported)
    return [
        entry.path
        for entry in mirror.tree(survey.target.commit)
        if entry.path in exported
        and entry.size <= _LARGEST_LOCK_FILE
        and (entry.path == dependencies.lock_file or entry.path.endswith(_LOCK_FILES))
    ]


def _failures(check: Callable[[], object]) -> Iterator[TradekeepError]:
    try:
        check()
    except TradekeepError as error:
        yield error
