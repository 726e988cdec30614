# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""How code lies on the disk: what every layout answers, and the one that is changed in place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Protocol

from ...application import Application
from ...deploy_settings import CollisionPolicy
from ...host.account import Account
from ...transaction.plan import Replacement
from ...transaction.stage import Stage
from .code import CodeManifest
from .code_plan import CodePlan, Upstream, plan_code
from .code_stage import CodeStage
from .look import Looker
from .preserved import Preserved


@dataclass(frozen=True)
class Staged:
    """New code, ready. directory: where it will lie. release: its name, for the layout that has them."""

    plan: CodePlan
    replacements: list[Replacement]
    directory: Path
    release: Optional[str] = None


class CodeLayout(Protocol):
    """What differs between the layouts. adopts: whether a checkout that is there already is taken over."""

    adopts: bool

    def plan(self, upstream: Upstream, old: CodeManifest, policy: CollisionPolicy) -> CodePlan:
        """What would change; reads only."""

    def exported(self, upstream: Upstream, plan: CodePlan) -> list[str]:
        """The paths of the commit that are needed on disk to carry the plan out."""

    def stage(self, plan: CodePlan, exported: Path, stage: Stage, release: str, environment: Optional[str]) -> Staged:
        """Make everything ready beside the live code. environment: where the link to the dependencies leads."""


class InPlace:
    """One directory, changed file by file."""

    adopts = True

    def __init__(self, application: Application, account: Account) -> None:
        self._application = application
        self._account = account
        self._checkout = Path(application.checkout)

    def plan(self, upstream: Upstream, old: CodeManifest, policy: CollisionPolicy) -> CodePlan:
        """See CodeLayout."""
        digits = max((len(entry.oid) for entry in upstream.entries.values()), default=40)
        looker = Looker(self._checkout, oid_digits=digits)
        return plan_code(upstream, old, looker, Preserved(self._application), policy)

    def exported(self, upstream: Upstream, plan: CodePlan) -> list[str]:
        """See CodeLayout."""
        if self._application.profile.deploy.dependencies is not None:
            # A lock file may name others; pip reads them where they lie in the commit.
            return sorted(upstream.entries)
        return [change.path for change in plan.changes if change.entry is not None]

    def stage(self, plan: CodePlan, exported: Path, stage: Stage, release: str, environment: Optional[str]) -> Staged:
        """See CodeLayout."""
        code = CodeStage(self._checkout, stage, self._account, system=self._application.system)
        filled = code.fill(plan, exported)
        replacements = code.replacements(filled)
        dependencies = self._application.profile.deploy.dependencies
        if dependencies is not None and environment is not None:
            link = self._checkout / dependencies.environment
            if not link.is_symlink() or os.readlink(link) != environment:
                replacements.append(code.symlink(dependencies.environment, environment))
        return Staged(filled, replacements, self._checkout)
