# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The layout of releases: a directory for each, the symlink ``current``, and the data outside of them.

<directory>/current -> releases/20260101_120000-0123456789ab
<directory>/releases/20260101_120000-0123456789ab/paper_trading_outputs -> <root>/paper_trading_outputs
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ...application import Application
from ...component_paths import is_open
from ...deploy_settings import CollisionPolicy
from ...errors import ConfigurationError, TradekeepError
from ...host.account import Account
from ...host.files import open_directory, os_errors, remove_tree
from ...host.filesystem.identity import with_privileges
from ...signals import answer
from ...transaction.plan import Replacement
from ...transaction.stage import Stage
from .code import CodeManifest
from .code_plan import Action, CodeChange, CodePlan, Upstream, plan_code
from .code_stage import CodeStage
from .layouts import Staged
from .look import Look, Looker, Thing

RELEASES = "releases"
CURRENT = "current"
_PROC = Path("/proc")
MARKER = ".tradekeep-release"
"""Written last into a new release: what is newer was written there by somebody else."""
_BYPRODUCTS = (".pyc", ".pyo")


class Releases:
    """See the module. What upstream has where a link to the data lies can collide with the data."""

    adopts = False

    def __init__(self, application: Application, account: Account) -> None:
        self._application = application
        self._account = account
        self._base = Path(application.checkout)
        self._root = Path(application.root)
        self._shared = {
            path: component.name for component in application.profile.components for path in component.paths
        }
        self._check()

    def plan(self, upstream: Upstream, old: CodeManifest, policy: CollisionPolicy) -> CodePlan:
        """See CodeLayout."""
        data = {path: entry for path, entry in upstream.entries.items() if self.component(path)}
        before = {path: entry for path, entry in old.entries.items() if self.component(path)}
        plan = plan_code(
            Upstream(upstream.commit, data, upstream.ignored),
            CodeManifest(old.commit, before),
            Looker(self._root),
            _Shared(self),
            policy,
        )
        plan.changes.extend(self._differences(upstream, old))
        plan.entries.update({path: entry for path, entry in upstream.entries.items() if path not in data})
        return plan

    def obstacles(self, plan: CodePlan) -> Iterator[TradekeepError]:
        """See CodeLayout."""
        seeds = self._seeds(plan)
        if seeds and self._base not in self._root.parents:
            yield TradekeepError(
                "upstream brings first files for data that lies elsewhere",
                path=seeds[0].path,
                hint="put them there yourself, or set deploy.on_collision to keep_live",
            )

    def exported(self, upstream: Upstream, plan: CodePlan) -> list[str]:
        """See CodeLayout."""
        seeds = {change.path for change in plan.changes if change.entry is not None}
        return sorted(path for path in upstream.entries if path in seeds or not self.component(path))

    def stage(self, plan: CodePlan, exported: Path, stage: Stage, release: str, environment: Optional[str]) -> Staged:
        """See CodeLayout."""
        release = self._free_name(release)
        place = f"{RELEASES}/{release}"
        code = self._code_stage(stage, place)
        entries = [entry for path, entry in sorted(plan.entries.items()) if not self.component(path)]
        created = [CodeChange(entry.path, Action.CREATE, _absent(entry.path), entry) for entry in entries]
        filled = code.fill(CodePlan(changes=created, entries=dict(plan.entries)), exported)
        for path, target in sorted(self._links(environment).items()):
            code.symlink(path, target)
        code.mark(MARKER)
        base = self._code_stage(stage, "")
        replacements = [*self._seed(plan, exported, stage), *base.directory(place), base.symlink(CURRENT, place)]
        done = CodePlan(plan.changes, plan.collisions, plan.notes, filled.entries, plan.emptied)
        return Staged(done, replacements, self._base / place, release)

    def tidy(self, keep: int) -> list[str]:
        """Remove all but the newest releases; returns what stays though it should go, and why.

        Never one that is current, that a process uses, or that holds files which no deploy put there.
        """
        notes: list[str] = []
        directory = self._base / RELEASES
        current = os.path.realpath(self._base / CURRENT)
        # A symlink in its place is refused; and whatever is put there from now on, the owner alone removes.
        with os_errors(directory):
            descriptor = open_directory(directory)
            names = os.listdir(descriptor)
            os.close(descriptor)
        releases = [directory / name for name in names if not name.startswith(".")]
        # What a wrong clock dated in the future takes no place of the newest ones, and stays until its date has come.
        dated = [release for release in releases if _made_at(release) <= time.time_ns()]
        for release in sorted(dated, key=_made_at, reverse=True)[keep:]:
            if os.path.realpath(release) == current or os.path.islink(release) or not os.path.isdir(release):
                continue
            reason = _in_use(release) or _written_here(release)
            if reason is not None:
                notes.append(f"{RELEASES}/{release.name} stays: {reason}")
            else:
                remove_tree(release)
        return notes

    def _free_name(self, release: str) -> str:
        """Two deploys of one commit within a second are two releases."""
        names = [release, *(f"{release}-{number}" for number in range(2, 100))]
        return next(name for name in names if not os.path.lexists(self._base / RELEASES / name))

    def _check(self) -> None:
        current = self._base / CURRENT
        if os.path.lexists(current) and not os.path.islink(current):
            raise TradekeepError(
                "is not a symlink, so this is no directory of releases",
                path=current,
                hint="move it away, or set deploy.layout to in_place",
            )
        if os.path.lexists(self._base / ".git"):
            raise TradekeepError(
                "is a git checkout, and releases lie beside each other",
                path=self._base,
                hint="name a new directory in deploy.directory, or set deploy.layout to in_place",
            )
        for path, component in self._shared.items():
            if is_open(path):
                raise ConfigurationError(
                    f"expected paths that a release can have links to, found {path!r} in component {component}",
                    path="deploy.layout",
                    hint="name directories in the component's paths, or set deploy.layout to in_place",
                )
        if (self._base / RELEASES) in (self._root, *self._root.parents) or self._root == self._base:
            raise ConfigurationError(
                f"expected data outside of the releases, found {str(self._root)!r}",
                path="root",
                hint=f"for instance {self._base}/shared",
            )

    def component(self, path: str) -> Optional[str]:
        names = path.split("/")
        levels = ("/".join(names[:count]) for count in range(1, len(names) + 1))
        return next((self._shared[level] for level in levels if level in self._shared), None)

    def _links(self, environment: Optional[str]) -> dict[str, str]:
        links = {path: os.fspath(self._root / path) for path in self._shared}
        dependencies = self._application.profile.deploy.dependencies
        if dependencies is not None and environment is not None:
            links[dependencies.environment] = environment
        return links

    def _seeds(self, plan: CodePlan) -> list[CodeChange]:
        """The files of the commit that the data begins with."""
        return [change for change in plan.changes if change.entry is not None and self.component(change.path)]

    def _seed(self, plan: CodePlan, exported: Path, stage: Stage) -> list[Replacement]:
        seeds = self._seeds(plan)
        if not seeds:
            return []
        root = self._code_stage(stage, self._root.relative_to(self._base).as_posix())
        return root.replacements(root.fill(CodePlan(changes=seeds, entries=plan.entries), exported))

    def _code_stage(self, stage: Stage, beneath: str) -> CodeStage:
        return CodeStage(self._base, stage, self._account, system=self._application.system, beneath=beneath)

    def _differences(self, upstream: Upstream, old: CodeManifest) -> Iterator[CodeChange]:
        """What differs between the two commits, for people; a release is written whole whatever they are."""
        for path in sorted({*upstream.entries, *old.entries}):
            new, before = upstream.entries.get(path), old.entries.get(path)
            if self.component(path) or (new and before and (new.oid, new.mode) == (before.oid, before.mode)):
                continue
            action = Action.CREATE if before is None else Action.REMOVE if new is None else Action.REPLACE
            yield CodeChange(path, action, _absent(path), new)


class _Shared:
    """The paths of the components: all of them are data."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases

    def reason(self, path: str) -> Optional[str]:
        """See DataPaths."""
        return f"component {self._releases.component(path)}"

    def holds(self, directory: str) -> bool:
        """See DataPaths."""
        return False


def _absent(path: str) -> Look:
    return Look(path, Thing.ABSENT)


def _made_at(release: Path) -> int:
    try:
        return (release / MARKER).lstat().st_mtime_ns
    except OSError:
        return 0


def _written_here(release: Path) -> Optional[str]:
    """What was written into a release since it was made, other than compiled Python."""
    try:
        made = (release / MARKER).lstat().st_mtime_ns
    except FileNotFoundError:
        return "nothing says that a deploy made it"
    for parent, _directories, files in os.walk(release):
        answer()
        for name in files:
            path = os.path.join(parent, name)
            with os_errors(path):
                written = os.lstat(path).st_mtime_ns > made
            if written and not name.endswith(_BYPRODUCTS):
                return f"{os.path.relpath(path, release)} was written there"
    return None


@with_privileges
def _in_use(release: Path) -> Optional[str]:
    """A process that works in a release or runs a program of it."""
    top = os.path.realpath(release)
    for process in _PROC.iterdir():
        for link in ("cwd", "exe", "root") if process.name.isdigit() else ():
            try:
                place = os.readlink(process / link)
            except OSError:
                continue
            if place == top or place.startswith(top + "/"):
                return f"process {process.name} uses it"
    return None
