# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Carrying a deploy out: everything slow first, then stop, exchange, start, watch, and commit or put back."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ...application import Application
from ...deploy_settings import BackupFirst
from ...errors import InterruptedBySignal, NeedsPersonError, TradekeepError
from ...git.mirror import Mirror
from ...git.rescue import rescue
from ...host.account import Account
from ...host.files import atomic_write, make_private_directory, open_file_beneath, os_errors
from ...host.filesystem.given import give_directory
from ...host.filesystem.identity import privileged, with_privileges
from ...host.filesystem.scratch import scratch_directory
from ...host.mounts import device_roots
from ...host.services import ServiceController, Snapshot
from ...kinds.base import CaptureContext
from ...ports import Ports
from ...signals import shielded
from ...transaction.exchange import Exchange
from ...transaction.plan import Replacement
from ...transaction.stage import Stage
from ...vocabulary import RESERVED_PREFIX
from ..controller import services_of
from ..exchange_run import Change, run_exchange
from ..healthy import health_gate
from ..still_writing import FORCE, FORCED, refuse_writers, writers_of
from .bots_writes import BotsWrites
from .code import CodeManifest
from .code_plan import LARGEST_EDIT, Action, CodeChange
from .data_reader import DataReader
from .dependencies import BuiltEnvironment, Environments
from .git_view import stage_git_view
from .hooks import Hooks
from .layouts import Staged
from .look import Looker, Thing
from .proof import Proof, Witness
from .records import Deployed, DeployRecords
from .survey import Survey
from .watched import Watched

_HISTORY = 50
# A bot that opens its files for each write is not seen at every moment.
_LOOKS, _BETWEEN_LOOKS = 10, 0.02
_PLACEHOLDERS = (".gitkeep", ".keep", ".gitignore")


@dataclass
class Carried:
    """What a deploy has done so far, for its record."""

    identifier: str
    moment: datetime
    times: dict[str, float] = field(default_factory=dict)
    downtime: float = 0.0
    backup: Optional[str] = None
    environment: Optional[BuiltEnvironment] = None
    rescued: dict[str, Any] = field(default_factory=dict)
    quarantined: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)
    proof: Optional[Proof] = None
    health: list[dict[str, Any]] = field(default_factory=list)
    hooks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    started: tuple[str, ...] = ()
    deployed: Optional[Deployed] = None


class DeployRun:
    """One deploy, from a survey without refused collisions to its commit. The caller holds the lock."""

    def __init__(
        self, survey: Survey, mirror: Mirror, hooks: Hooks, carried: Carried, ports: Ports, *, force: bool = False
    ) -> None:
        application = survey.application
        self._survey = survey
        self._application = application
        self._deploy = application.profile.deploy
        self._mirror = mirror
        self._ports = ports
        self._force = force
        self.carried = carried
        self._records = DeployRecords(application)
        self._state_dir = Path(application.application_state_dir)
        self._checkout = Path(application.checkout)
        self._old_commit = survey.old.commit
        self._commit = survey.target.commit
        self._hooks = hooks
        self._ran_before = self._runs_now = True
        self._services = services_of(application, ports)
        self._gate = health_gate(application, ports, directory=self._checkout)

    def carry_out(self) -> None:
        """Deploy. Raises with everything as it was, or NeedsPersonError."""
        carried = self.carried
        if self._deploy.backup_first is not BackupFirst.NONE:
            # All that makes backups is loaded where it is needed alone.
            from .backup_first import backup_first

            with self._timed("backup"):
                made = backup_first(self._application, self._ports)
                carried.backup = None if made is None else str(made.path)
        self._make_checkout()
        with self._place("export") as exported, Stage.create(self._state_dir, device_roots(self._checkout)) as stage:
            with self._timed("staging"):
                staged, replacements = self._prepare(exported, stage)
            self._hook("before_stop")
            self._exchange(stage, staged, replacements)
        self._after_commit(staged)

    def _prepare(self, exported: Path, stage: Stage) -> tuple[Staged, list[Replacement]]:
        survey, ports = self._survey, self._ports
        ports.progress.start("preparing the new code beside the old")
        ports.step("export")
        self._mirror.export(self._commit, survey.exported, exported)
        environment = self._build_environment(exported)
        ports.step("stage")
        release = f"{self.carried.moment:%Y%m%d_%H%M%S}-{self._commit[:12]}"
        staged = survey.layout.stage(survey.plan, exported, stage, release, environment)
        replacements = list(staged.replacements)
        self._rescue()
        if survey.checkout is not None and not survey.in_step:
            replacements += stage_git_view(survey.checkout, self._mirror, self._commit, stage)
        ports.step("staged")
        if stage.directories:
            stage.sync()
        return staged, replacements

    def _build_environment(self, exported: Path) -> Optional[str]:
        dependencies = self._deploy.dependencies
        if dependencies is None:
            return None
        environments = Environments(
            dependencies, checkout=self._checkout, account=self._survey.account, ports=self._ports
        )
        log = self._records.outputs(self.carried.moment, self.carried.identifier) / "dependencies.log"
        _make_private_directory(log.parent)
        with self._timed("dependencies"):
            self.carried.environment = environments.build(environments.plan(exported), exported, log=log)
        return self.carried.environment.directory

    def _rescue(self) -> None:
        survey = self._survey
        if survey.checkout is None or survey.state is None or not survey.state.has_local_work:
            return
        directory = self._records.outputs(self.carried.moment, self.carried.identifier)
        _make_private_directory(directory)
        kept = [path for path, entry in survey.plan.entries.items() if not entry.ours]
        stamp = f"{self.carried.moment:%Y%m%d_%H%M%S}-{self.carried.identifier[:8]}"
        rescued = rescue(survey.checkout, stamp, into=directory, unseen=kept)
        files = {"differences": rescued.differences, "staged": rescued.staged}
        self.carried.rescued = {"refs": rescued.refs, **{name: str(path) for name, path in files.items() if path}}

    def _exchange(self, stage: Stage, staged: Staged, replacements: list[Replacement]) -> None:
        with self._place("check") as scratch, contextlib.ExitStack() as stack:
            context = CaptureContext(scratch, self._ports.clock)
            reader = stack.enter_context(contextlib.closing(DataReader(context, self._survey.account, self._ports)))
            adopted = None if staged.set_aside is None else staged.set_aside.live
            witness = Witness(self._application, self._code_paths(staged), reader, adopted=adopted)
            with self._timed("proof"):
                writes = BotsWrites(self._application, reader)
                watched = Watched(witness, writes, self.carried.notes.append)
            with contextlib.closing(watched):
                self._run_exchange(stage, staged, replacements, watched)
            for directory in sorted(witness.unreadable):
                self.carried.notes.append(f"{directory}: not to be read by {self._survey.account.name}, so not watched")

    def _run_exchange(self, stage: Stage, staged: Staged, replacements: list[Replacement], watched: Watched) -> None:
        start = self._what_to_start()
        services = self._services if staged.plan.changes or start is not None else _nothing_to_stop(self._ports)

        def at_rest() -> list[Replacement]:
            watched.before()
            return replacements

        def refuse_others() -> None:
            # Where nothing is stopped nothing is exchanged, and the bot goes on.
            if services is self._services:
                refuse_writers(self._application, self._ports, services, force=self._force, way_out=FORCE)

        def judge() -> None:
            # Before the proof, which then says what they have done to the data.
            self._hook("before_start")
            self.carried.proof = watched.after(self._bot_runs_on)
            if self.carried.proof.damaged:
                raise TradekeepError(
                    f"the data is not as it was before: {self.carried.proof.damaged[0]}",
                    path=self._application.root,
                    hint="see: tradekeep deploy --log",
                )

        change = Change[None](
            operation="deploy",
            in_place="the new code is in place",
            replacements=at_rest,
            before_start=judge,
            confirm=lambda: self._confirm(start, watched),
            keep=lambda exchange: self._keep_whole(exchange, staged),
            put_back=self._check_old,
            after_stop=lambda: self._hook("after_stop"),
            were_stopped=self.carried.stopped.extend,
            was_down=self._was_down,
            what="code",
            details={
                "deploy_id": self.carried.identifier,
                "commit": self._commit,
                "previous": self._old_commit,
                FORCED: self._force,
            },
        )
        run_exchange(
            change,
            state_dir=self._state_dir,
            stage=stage,
            services=services,
            ports=self._ports,
            refuse_writers=refuse_others,
            start=start,
        )

    def _bot_runs_on(self) -> bool:
        """Whether something writes that nothing has stopped, and so does what it does by itself."""
        if any(hook.at == "before_start" for hook in self._deploy.hooks):
            return False  # what the hook did cannot be told from it
        for _look in range(_LOOKS):
            if writers_of(self._application, self._services):
                return True
            self._ports.clock.sleep(_BETWEEN_LOOKS)
        return False

    def _was_down(self, seconds: float) -> None:
        self.carried.downtime = round(self.carried.downtime + seconds, 3)

    def _what_to_start(self) -> Optional[Snapshot]:
        """After the first code of all, or when it waited for files, everything installed; else what ran before."""
        standing = self._survey.standing
        if self._survey.missing or self._survey.leave_down:
            return None
        before = self._services.snapshot()
        running = _names(before)
        # Where nobody has named a service, whoever starts the bot can have done so.
        self._ran_before = self._runs_now = bool(running) or not before
        installed = self._services.installed()
        names = _names(installed)
        first = standing is None and self._old_commit is None
        if first or (standing is not None and standing.waiting):
            self.carried.started = tuple(names)
            self._runs_now = bool(names) or not before
            return installed
        idle = [name for name in names if name not in running]
        if idle:
            unasked = "; its health is not asked" if self._deploy.health and not running else ""
            self.carried.notes.append(f"did not run before, and so was not started: {', '.join(idle)}{unasked}")
        return None

    def _confirm(self, start: Optional[Snapshot], watched: Watched) -> None:
        if self._runs_now and self._may_be_healthy():
            with self._timed("health"):
                try:
                    self._gate.run(self._ports.clock.now())
                finally:
                    self.carried.health = [result.as_dict() for result in self._gate.results]
        self._hook("after_start")
        later = watched.later()
        if later.damaged:
            self.carried.proof = later
            raise TradekeepError(
                f"the new code damages data: {later.damaged[0]}",
                path=self._application.root,
                hint="see: tradekeep deploy --log, and the backup that was made before",
            )

    def _check_old(self) -> None:
        """After everything was put back: the old code has to work as well as before, if it did run."""
        if self._ran_before and self._survey.had_code and self._may_be_healthy():
            self._gate.run()

    def _may_be_healthy(self) -> bool:
        """A bot that waits for files, or that is left down on purpose, does not run."""
        if self._survey.missing:
            return False
        return not self._survey.leave_down or self._services.is_active()

    def _keep_whole(self, exchange: Exchange, staged: Staged) -> None:
        """Short, and too late to stop: the new code is in place and runs."""
        with contextlib.suppress(InterruptedBySignal), shielded():
            self._keep(exchange, staged)

    def _keep(self, exchange: Exchange, staged: Staged) -> None:
        self._quarantine(exchange, staged)
        survey, carried = self._survey, self.carried
        carried.deployed = Deployed(
            identifier=carried.identifier,
            commit=self._commit,
            history=self._history(),
            ref=survey.target.ref,
            at=carried.moment.isoformat(),
            release=staged.release,
            environment=None if carried.environment is None else carried.environment.key,
            waiting=survey.waits_for,
        )
        self._mirror.keep(self._commit)
        self._ports.step("stand")
        self._records.commit(carried.deployed, CodeManifest(self._commit, staged.plan.entries))
        # Whoever owns the checkout can have moved it by now.
        if staged.set_aside is not None and os.path.isdir(staged.set_aside.kept):
            carried.set_aside.append(staged.set_aside.kept)

    def _history(self) -> tuple[str, ...]:
        """A deploy goes on from the one that stood; a rollback goes back behind it."""
        before = () if self._survey.standing is None else self._survey.standing.history
        if self._old_commit is None or self._old_commit == self._commit:
            return before
        if self._survey.rollback:
            return before[:-1]
        return (*before, self._old_commit)[-_HISTORY:]

    def _quarantine(self, exchange: Exchange, staged: Staged) -> None:
        """Keep what was replaced or removed and is not what a deploy had put there."""
        place = self._records.quarantine(self.carried.moment, self.carried.identifier)
        kept = {os.path.relpath(item.live, self._checkout): item.kept for item in exchange.replacements if item.had}
        for change in staged.plan.changes:
            aside = kept.get(change.path)
            if aside is None or change.look.thing is not Thing.FILE:
                continue
            try:
                content = _content(aside) if self._is_foreign(change, Path(aside)) else None
            except TradekeepError as error:
                # Its owner has done something to it since, and that must not hold up a deploy which is in place.
                self.carried.notes.append(f"{change.path}: the edit was not kept aside: {error}")
                continue
            if content is None:
                continue
            target = place / change.path
            with privileged(), os_errors(target):
                make_private_directory(place.parent)
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                atomic_write(target, content)
            self.carried.quarantined.append(change.path)

    def _is_foreign(self, change: CodeChange, aside: Path) -> bool:
        """Whether what was replaced is neither what a deploy had put there nor what it puts there now."""
        for entry in (self._survey.old.entries.get(change.path), change.entry):
            if entry is None:
                continue
            look = Looker(aside.parent, oid_digits=len(entry.oid)).at(aside.name)
            if look.sha256 == entry.sha256 if entry.sha256 is not None else look.oid == entry.oid:
                return False
        return True

    def _after_commit(self, staged: Staged) -> None:
        """What can no longer fail the deploy."""
        self._remove_empty_directories(staged)
        with self._noted():
            self._hook("after_commit")
        if self._survey.checkout is not None:
            self._survey.checkout.refresh()
            self._survey.checkout.exclude(f"{RESERVED_PREFIX}*")

    def _remove_empty_directories(self, staged: Staged) -> None:
        """Directories that only held code which is gone; one that upstream kept by a placeholder stays."""
        gone = [change.path for change in staged.plan.changes if change.action is Action.REMOVE]
        stays = {os.path.dirname(path) for path in gone if os.path.basename(path) in _PLACEHOLDERS}
        above = {path[:end] for path in gone for end, character in enumerate(path) if character == "/"}
        for directory in sorted(above - stays, key=len, reverse=True):
            with contextlib.suppress(OSError):
                (self._checkout / directory).rmdir()

    def _code_paths(self, staged: Staged) -> set[str]:
        """Relative paths that a deploy may change; everything else is watched."""
        return {path for path, entry in staged.plan.entries.items() if entry.ours} | {
            path for path, entry in self._survey.old.entries.items() if entry.ours and path not in staged.plan.entries
        }

    def _make_checkout(self) -> None:
        if not os.path.isdir(self._checkout):
            give_directory(self._checkout, self._survey.account, mode=0o755)

    def _place(self, purpose: str) -> contextlib.AbstractContextManager[Path]:
        """An empty directory of the owner's, on a disk and not in memory."""
        return scratch_directory(self._mirror.directory.parent, purpose, account=self._survey.account)

    def _hook(self, step: str) -> None:
        try:
            self._hooks.run(step, old_commit=self._old_commit, new_commit=self._commit)
        finally:
            self.carried.hooks = [result.as_dict() for result in self._hooks.results]

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except NeedsPersonError:
            raise
        except TradekeepError as error:
            self.carried.notes.append(str(error))

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begun = self._ports.clock.monotonic()
        try:
            yield
        finally:
            self.carried.times[what] = round(self._ports.clock.monotonic() - begun, 3)


def deploy_hooks(application: Application, account: Account, carried: Carried, ports: Ports) -> Hooks:
    """The hooks of one deploy; what they say is kept beside its record."""
    return Hooks(
        application.profile.deploy.hooks,
        application=application.name,
        directory=Path(application.checkout),
        account=account,
        logs=DeployRecords(application).outputs(carried.moment, carried.identifier),
        ports=ports,
    )


def new_identifier() -> str:
    """A name for one deploy."""
    return secrets.token_hex(8)


def _names(snapshot: Snapshot) -> list[str]:
    """What runs, or is installed, by a snapshot."""
    return [name for entry in snapshot for name in entry["running"]]


def _nothing_to_stop(ports: Ports) -> ServiceController:
    return ServiceController((), ports.runner, ports.clock)


def _content(path: str) -> bytes:
    """Of a file of the owner's, which is code and not data."""
    with os_errors(path), open(open_file_beneath(*os.path.split(path)), "rb") as file:
        content = file.read(LARGEST_EDIT + 1)
    if len(content) > LARGEST_EDIT:
        raise TradekeepError("is too large for a file of code", path=path)
    return content


@with_privileges
def _make_private_directory(directory: Path) -> None:
    """One of ours, beside the records."""
    make_private_directory(directory)
