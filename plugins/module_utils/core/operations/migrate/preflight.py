# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The checklist before a migration, as code: each point is ok, failed, or does not apply."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

from ...application import Application
from ...configuration import load_application
from ...errors import TradekeepError
from ...host.account import account_of, command_as, current_account, environment_of
from ...host.files import space
from ...host.filesystem.identity import privileged
from ...host.writers import writers_in
from ...ports import Ports
from ...transaction.fence_file import fence_in_words, read_fence
from ...version import VERSION
from ..healthy import working_directory
from ..safety import safety_space
from ..text import counted, human_bytes, human_seconds
from .migration_plan import MigrationPlan
from .origin import Origin

SERVER = "server"
OK, FAILED, NOT_APPLICABLE = "ok", "failed", "not_applicable"
_BUILT = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""No clock that is right shows less: this program did not exist."""
_FUTURE = timedelta(minutes=5)


@dataclass(frozen=True)
class Check:
    """One point of the checklist. forceable: ``--force`` goes on although it failed."""

    name: str
    state: str
    detail: str
    forceable: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The point as records show it."""
        return asdict(self)


@dataclass(frozen=True)
class Situation:
    """What the checks look at. starts: whether the application runs on this host afterwards."""

    application: Application
    ports: Ports
    origin: Origin
    plan: MigrationPlan
    force: bool
    starts: bool
    start_wanted: bool


def preflight(situation: Situation) -> tuple[Check, ...]:
    """Go through the whole list. Writes nothing; a declared check command should not either."""
    return tuple(_all(situation))


def _all(at: Situation) -> Iterator[Check]:
    yield _source(at)
    yield _profile(at)
    yield _target_backup(at)
    yield _configuration(at.application)
    yield from _credentials(at)
    yield _space(at)
    yield _versions(at)
    yield _clock(at)
    yield _one_bot(at)
    yield _fence(at)
    yield from _commands(at)


def _source(at: Situation) -> Check:
    facts = at.origin.facts
    if facts.kind == "directory":
        return Check("source", OK, f"captured file by file, {_databases(at)} opened")
    if facts.kind == SERVER:
        return Check("source", OK, f"compared block by block with {facts.host}, {_databases(at)} opened")
    if facts.weaker_checks:
        return Check("source", OK, f"readable to its end; without a manifest, {_databases(at)} opened")
    return Check("source", OK, f"verified whole against its manifest, made {facts.created} on {facts.host}")


def _databases(at: Situation) -> str:
    return counted(sum(1 for entry in at.origin.held.entries if entry.kind == "sqlite"), "database")


def _profile(at: Situation) -> Check:
    critical = {item.name for item in at.application.profile.components if item.critical and item.backup}
    held = {entry.component for entry in at.origin.held.entries if entry.type != "directory"}
    lacking = sorted(critical - held)
    if not critical:
        return Check("profile", NOT_APPLICABLE, "no component is critical")
    if lacking and not critical & held:
        return Check("profile", FAILED, f"holds nothing of {', '.join(lacking)}", forceable=True)
    return Check("profile", OK, f"without {', '.join(lacking)}" if lacking else "holds every critical component")


def _target_backup(at: Situation) -> Check:
    replaced = [item for item in at.plan.changes if item.action != "new"]
    if not replaced:
        return Check("backup", NOT_APPLICABLE, "nothing on this host is replaced")
    if not at.force and at.plan.conflicts:
        return Check("backup", NOT_APPLICABLE, "made with --force, before anything is replaced")
    return Check("backup", OK, "this host's data is backed up and verified first")


def _configuration(application: Application) -> Check:
    path = str(application.config_file)
    try:
        with privileged():
            recorded = load_application(config_file=path)
    except TradekeepError as error:
        return Check("configuration", FAILED, str(error))
    if (recorded.name, str(recorded.root)) != (application.name, str(application.root)):
        return Check("configuration", FAILED, f"{path}: is of {recorded.name} in {recorded.root}")
    return Check("configuration", OK, f"recorded in {path}")


def _credentials(at: Situation) -> Iterator[Check]:
    found = at.origin.held.credentials
    if not found:
        yield Check("credentials", NOT_APPLICABLE, "the source has none")
    for path, problem in sorted(found.items()):
        if problem is not None:
            yield Check("credentials", FAILED, f"{path}: {problem}", forceable=True)
    if found and not any(found.values()):
        yield Check("credentials", OK, f"{len(found)} well-formed")


def _space(at: Situation) -> Check:
    root = str(at.application.root)
    needed = sum(item.entry.data_bytes for item in at.plan.changes if item.entry is not None)
    free = space(root)
    if needed + (1 << 20) > free.bytes_free:
        return Check("space", FAILED, f"{human_bytes(needed)} needed in {root}, {human_bytes(free.bytes_free)} free")
    if free.inodes_free is not None and free.inodes_free < len(at.plan.changes) + 16:
        return Check("space", FAILED, f"{len(at.plan.changes)} inodes needed in {root}, {free.inodes_free} free")
    replaced = sum((item.before or {}).get("size", 0) for item in at.plan.changes)
    if replaced:
        try:
            safety_space(at.application, replaced)
        except TradekeepError as error:
            return Check("space", FAILED, str(error))
    return Check("space", OK, f"{human_bytes(needed)} needed, {human_bytes(free.bytes_free)} free")


def _versions(at: Situation) -> Check:
    facts = at.origin.facts
    if facts.kind == SERVER:
        return Check("versions", NOT_APPLICABLE, "both speak the same protocol")
    if facts.format is None:
        return Check("versions", NOT_APPLICABLE, "the source has no manifest")
    return Check("versions", OK, f"format {facts.format} of {facts.tool}, here tradekeep {VERSION}")


def _clock(at: Situation) -> Check:
    now = at.ports.clock.now()
    if now < _BUILT:
        return Check("clock", FAILED, f"this host's clock shows {now:%Y-%m-%d}, which is long past")
    newest = max(at.origin.held.entries, key=lambda entry: entry.mtime_ns if entry.type == "file" else 0, default=None)
    ahead = 0.0 if newest is None or newest.type != "file" else newest.mtime_ns / 1e9 - now.timestamp()
    if newest is not None and ahead > _FUTURE.total_seconds():
        detail = f"{newest.path} is dated {human_seconds(ahead)} in the future: this clock or the source's is wrong"
        return Check("clock", FAILED, detail, forceable=True)
    return Check("clock", OK, f"{now:%Y-%m-%d %H:%M:%S} UTC, and no file of the source is later")


def _one_bot(at: Situation) -> Check:
    facts = at.origin.facts
    if facts.kind == SERVER:
        return Check("one bot", OK, f"nothing runs here before {facts.host} has let go")
    if facts.kind != "directory":
        return Check("one bot", NOT_APPLICABLE, "an archive runs nothing")
    writers = writers_in(Path(facts.root))
    if not writers:
        return Check("one bot", OK, "nothing writes into the source on this host")
    if at.starts:
        return Check("one bot", FAILED, f"{writers[0]}, and the application would run here too: stop that first")
    return Check("one bot", OK, f"{writers[0]}; nothing of the application runs here")


def _fence(at: Situation) -> Check:
    if at.origin.facts.kind == SERVER:
        return Check("fence", OK, "this host is fenced until then")
    fence = read_fence(Path(at.application.application_state_dir))
    if fence is None:
        return Check("fence", NOT_APPLICABLE, "this host is not fenced")
    if at.start_wanted:
        return Check("fence", FAILED, f"this host is {fence_in_words(fence)}: see tradekeep unfence")
    return Check("fence", OK, f"this host is {fence_in_words(fence)}; the services stay down")


def _commands(at: Situation) -> Iterator[Check]:
    application, checks = at.application, at.application.profile.migrate.checks
    if not checks:
        yield Check("checks", NOT_APPLICABLE, "the profile declares none")
        return
    account = account_of(application.owner, application.group) if application.system else current_account()
    directory = str(working_directory(application))
    environment = {
        **environment_of(account),
        "TRADEKEEP_APP": application.name,
        "TRADEKEEP_STEP": "preflight",
        "TRADEKEEP_SOURCE": at.origin.facts.given,
    }
    for check in checks:
        said = at.ports.runner.listen(
            command_as(account, check.command, directory=directory),
            environment=environment,
            timeout_seconds=check.timeout_seconds,
        )
        yield _verdict(shlex.join(check.command), said.status, said.last_line, check.timeout_seconds)


def _verdict(command: str, status: Optional[int], last_line: str, timeout_seconds: float) -> Check:
    words = f": {last_line}" if last_line else ""
    if status is None:
        return Check(
            "checks", FAILED, f"{command} did not end within {counted(float(timeout_seconds), 'second')}{words}"
        )
    if status != 0:
        return Check("checks", FAILED, f"{command} failed with exit status {status}{words}")
    return Check("checks", OK, command)
