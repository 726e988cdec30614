# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a deploy finds before it does anything: the commit, the checkout, what would change, what is in the way."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ...application import Application
from ...deploy_settings import Layout
from ...errors import SpaceError, TradekeepError, UsageError
from ...git.checkout import Checkout, CheckoutState
from ...git.mirror import Mirror
from ...git.objects import LogLine
from ...git.process import Transport
from ...git.refs import RefKind, Resolved
from ...host.account import Account, account_of, current_account
from ...host.files import os_errors, space
from ...host.mounts import device_roots
from ...ports import Ports
from ..code_access import require_key
from ..text import counted, human_bytes
from .code import CodeEntry, CodeManifest
from .code_plan import CodePlan, Upstream
from .layouts import CodeLayout, InPlace
from .look import Thing
from .records import Deployed, DeployRecords
from .releases import Releases
from .request import DeployRequest


@dataclass
class Survey:
    """All that the rest of a deploy works with. standing: the deploy that stands now, None before the first."""

    application: Application
    account: Account
    layout: CodeLayout
    target: Resolved
    standing: Optional[Deployed]
    old: CodeManifest
    plan: CodePlan
    exported: list[str] = field(default_factory=list)
    rollback: bool = False
    checkout: Optional[Checkout] = None
    state: Optional[CheckoutState] = None
    notes: list[str] = field(default_factory=list)
    commits: list[LogLine] = field(default_factory=list)
    missing: tuple[str, ...] = ()
    in_step: bool = True
    """Whether what git itself and the environment say of the checkout is what it will be."""
    leave_down: bool = False
    obstacles: list[TradekeepError] = field(default_factory=list)
    """Why it cannot be carried out, apart from collisions."""

    @property
    def refused(self) -> bool:
        """Whether anything is in the way."""
        return bool(self.plan.refused or self.obstacles)

    @property
    def had_code(self) -> bool:
        """Whether there was code before, which can be put back and can be healthy."""
        return self.old.commit is not None or any(change.look.thing is not Thing.ABSENT for change in self.plan.changes)

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The files for which this deploy has services wait; who leaves them down sees to them too."""
        return () if self.leave_down else self.missing

    @property
    def unchanged(self) -> bool:
        """Whether the commit is there already, and nothing waits for this deploy."""
        known = self.standing is not None and self.standing.commit == self.target.commit
        waited = self.standing is not None and self.standing.waiting and not self.missing
        return known and not self.plan.changes and not self.refused and self.in_step and not waited

    def changes(self) -> dict[str, Any]:
        """Counts and paths, for the record."""
        by_action: dict[str, list[str]] = {"create": [], "replace": [], "remove": []}
        for change in self.plan.changes:
            by_action[change.action.value].append(change.path)
        return {
            **{f"{action}d" if action.endswith("e") else action: len(paths) for action, paths in by_action.items()},
            "paths": {action: paths for action, paths in by_action.items() if paths},
            "edited": [change.path for change in self.plan.changes if change.edited],
        }


def account_for(application: Application) -> Account:
    """Whom git, pip and hooks run as."""
    return account_of(application.owner, application.group) if application.system else current_account()


def mirror_of(application: Application, account: Account, ports: Ports) -> Mirror:
    """The application's mirror."""
    deploy = application.profile.deploy
    return Mirror.of(
        ports.runner,
        account,
        state_dir=str(application.state_dir),
        application=application.name,
        transport=Transport(deploy.ssh_key_file, deploy.known_hosts_file),
    )


@contextmanager
def peeking(application: Application, account: Account, ports: Ports) -> Iterator[Mirror]:
    """A mirror that writes nothing, for plans."""
    with mirror_of(application, account, ports).peek() as mirror:
        yield mirror


def look_around(
    application: Application, request: DeployRequest, mirror: Mirror, account: Account, ports: Ports
) -> Survey:
    """Fetch, resolve and compare. Raises for what no policy can decide; collisions are in the plan."""
    standing = DeployRecords(application).standing()
    target = _target(application, request, standing, mirror, ports)
    layout = _layout(application, account, request)
    checkout = _checkout(application, layout, account, ports)
    ports.progress.start(f"comparing with {target.commit[:12]}")
    state = None if checkout is None else checkout.look(mirror, target=target.commit)
    notes = [] if state is None else list(_state_notes(state, adopted=standing is None))
    _refuse_lock(state)
    old = _old_manifest(application, standing, checkout, state, mirror)
    upstream = _upstream(mirror, target.commit)
    plan = layout.plan(upstream, old, application.profile.deploy.on_collision)
    exported = layout.exported(upstream, plan)
    if checkout is not None:
        mirror.refuse_filters_of(checkout, target.commit, exported)
    survey = Survey(
        application, account, layout, target, standing, old, plan, exported, request.rollback, checkout, state, notes
    )
    if layout.adopts:
        survey.notes.extend(_mount_notes(application))
    survey.leave_down = request.leave_down
    survey.obstacles = list(layout.obstacles(plan))
    survey.missing = tuple(missing_files(application))
    survey.in_step = state is None or state.linked_worktree or state.head == target.commit
    if old.commit and old.commit != target.commit:
        survey.commits = _log(mirror, old.commit, target.commit)
    _check_space(application, mirror, target.commit, frozenset(exported))
    return survey


def missing_files(application: Application) -> Iterator[str]:
    """Files without which no service is started, that are not there or empty."""
    for relative in application.profile.deploy.requires:
        path = Path(application.root) / relative
        try:
            if path.stat().st_size:
                continue
        except OSError:
            pass
        yield str(path)


def _target(
    application: Application, request: DeployRequest, standing: Optional[Deployed], mirror: Mirror, ports: Ports
) -> Resolved:
    deploy = application.profile.deploy
    if request.rollback:
        return _previous(request, standing)
    require_key(application, mirror.account)
    ports.progress.start(f"fetching {request.ref}")
    ports.step("fetch")
    mirror.fetch(str(deploy.repository), [str(request.ref)])
    target = mirror.resolve(str(request.ref))
    if deploy.branches and not any(mirror.contains(branch, target.commit) for branch in deploy.branches):
        raise TradekeepError(
            f"is not in {' or '.join(deploy.branches)}, from which alone deploys are allowed",
            path=request.ref,
            hint="merge it there first, or change deploy.branches",
        )
    if deploy.signers:
        mirror.verify_signature(target, deploy.signers)
    return target


def _previous(request: DeployRequest, standing: Optional[Deployed]) -> Resolved:
    if standing is None or standing.previous is None:
        raise UsageError("there is no earlier deploy to go back to", hint="see: tradekeep deploy --log")
    if request.expected and standing.commit != request.expected:
        raise UsageError(
            f"{standing.commit[:12]} is deployed and not {request.expected[:12]}, so nothing is rolled back",
            hint="see: tradekeep deploy --log",
        )
    return Resolved(standing.previous, standing.previous, RefKind.COMMIT)


def _layout(application: Application, account: Account, request: DeployRequest) -> CodeLayout:
    if application.profile.deploy.layout is Layout.RELEASES:
        return Releases(application, account)
    return InPlace(application, account, adopt=request.adopt)


def _checkout(application: Application, layout: CodeLayout, account: Account, ports: Ports) -> Optional[Checkout]:
    directory = Path(application.checkout)
    if not layout.adopts or not os.path.isdir(directory):
        return None
    return Checkout.at(ports.runner, account, directory)


def _old_manifest(
    application: Application,
    standing: Optional[Deployed],
    checkout: Optional[Checkout],
    state: Optional[CheckoutState],
    mirror: Mirror,
) -> CodeManifest:
    """What the last deploy put there; before the first, what the checkout's HEAD says that git put there."""
    if standing is not None:
        return DeployRecords(application).manifest(standing)
    if checkout is None or state is None or state.head is None:
        return CodeManifest()
    mirror.fetch_from_checkout(checkout, state.head)
    return CodeManifest(state.head, _entries(mirror, state.head))


def _upstream(mirror: Mirror, commit: str) -> Upstream:
    return Upstream(commit, _entries(mirror, commit), frozenset(mirror.ignored(commit)))


def _entries(mirror: Mirror, commit: str) -> Mapping[str, CodeEntry]:
    return {entry.path: CodeEntry(entry.path, entry.mode, entry.oid) for entry in mirror.tree(commit)}


def _log(mirror: Mirror, old: str, new: str) -> list[LogLine]:
    return mirror.log(old, new, limit=20) if mirror.has(old) else []


def _refuse_lock(state: Optional[CheckoutState]) -> None:
    if state is not None and state.index_lock is not None and not state.index_lock.stale:
        lock = state.index_lock
        raise TradekeepError(
            f"is held by {lock.program or 'a process'} (process {lock.holder})",
            path=lock.path,
            hint="let it finish, then deploy again",
        )


def _state_notes(state: CheckoutState, *, adopted: bool) -> Iterator[str]:
    """What a person should know of the checkout; none of it stands in the way."""
    if state.index_lock is not None:
        yield f"{state.index_lock.path} is left over and nobody holds it; it is left alone, remove it for git"
    if state.in_progress:
        yield f"a {state.in_progress} is in progress here; its commits are kept under refs/rescue/"
    if state.local_commits:
        yield f"only here: {counted(len(state.local_commits), 'commit')}, kept under refs/rescue/"
    if state.stashes:
        yield f"stashed here: {counted(len(state.stashes), 'edit')}, kept under refs/rescue/"
    if state.edited:
        yield f"changed here: {counted(len(state.edited), 'tracked file')}, of which a difference is kept"
    if state.detached and adopted:
        yield "HEAD is detached here"
    if state.shallow:
        yield "the checkout is shallow; what a rollback needs is kept in the mirror"
    if state.sparse or state.skip_worktree:
        yield "the checkout is sparse; all of the commit is deployed"
    if state.linked_worktree:
        yield "the checkout is a linked work tree; git's own view of it is not brought up to date"


def _mount_notes(application: Application) -> Iterator[str]:
    checkout = Path(application.checkout)
    if not os.path.isdir(checkout):
        return
    for root in device_roots(checkout):
        if root.relative:
            yield f"{root.relative} is a mount point; nothing beneath it is deployed"
    with os_errors(checkout):
        links = [name for name in os.listdir(checkout) if os.path.islink(checkout / name)]
    for name in sorted(name for name in links if os.path.isdir(checkout / name)):
        yield f"{name} is a symlink to a directory; nothing is written through it"


def _check_space(application: Application, mirror: Mirror, commit: str, wanted: frozenset[str]) -> None:
    needed = sum(entry.size + 4096 for entry in mirror.tree(commit) if entry.path in wanted)
    free = space(application.checkout)
    lacking = None
    if 2 * needed > free.bytes_free:
        lacking = f"{human_bytes(2 * needed)} needed, {human_bytes(free.bytes_free)} free"
    elif free.inodes_free is not None and 2 * len(wanted) + 64 > free.inodes_free:
        lacking = f"{2 * len(wanted) + 64} inodes needed, {free.inodes_free} free"
    if lacking is not None:
        raise SpaceError(lacking, path=application.checkout, hint="free some space and run again")
