# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""How code lies on the disk: what every layout answers, and the one that is changed in place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Protocol

from ...application import Application
from ...deploy_settings import CollisionPolicy
from ...errors import TradekeepError
from ...formatting import pasted
from ...host.account import Account
from ...host.files import os_errors
from ...transaction.plan import Replacement
from ...transaction.stage import Stage
from .code import CodeManifest
from .code_plan import CodePlan, Upstream, plan_code
from .code_stage import CodeStage
from .dependencies import ENVIRONMENTS, REPLACED, check_link
from .look import Looker
from .preserved import Preserved


@dataclass(frozen=True)
class Staged:
    """New code, ready. directory: where it will lie. release: its name, for the layout that has them.

    set_aside: where a directory that is adopted was, and is kept. It goes there in the exchange itself: wherever the
    deploy is cut off, it is in one place or the other.
    """

    plan: CodePlan
    replacements: list[Replacement]
    directory: Path
    release: Optional[str] = None
    set_aside: Optional[Replacement] = None


class CodeLayout(Protocol):
    """What differs between the layouts. adopts: whether a checkout that is there already is taken over."""

    adopts: bool

    def plan(self, upstream: Upstream, old: CodeManifest, policy: CollisionPolicy) -> CodePlan:
        """What would change; reads only."""

    def obstacles(self, plan: CodePlan) -> Iterator[TradekeepError]:
        """Why a plan cannot be carried out, collisions apart; reads only."""

    def exported(self, upstream: Upstream, plan: CodePlan) -> list[str]:
        """The paths of the commit that are needed on disk to carry the plan out."""

    def stage(self, plan: CodePlan, exported: Path, stage: Stage, release: str, environment: Optional[str]) -> Staged:
        """Make everything ready beside the live code. environment: where the link to the dependencies leads."""


class InPlace:
    """One directory, changed file by file.

    adopt: what lies in the place of code, or of the link to the environment, makes way and is kept.
    """

    adopts = True

    def __init__(self, application: Application, account: Account, *, adopt: bool = False) -> None:
        self._application = application
        self._adopt = adopt
        self._account = account
        self._checkout = Path(application.checkout)

    def plan(self, upstream: Upstream, old: CodeManifest, policy: CollisionPolicy) -> CodePlan:
        """See CodeLayout."""
        digits = max((len(entry.oid) for entry in upstream.entries.values()), default=40)
        looker = Looker(self._checkout, oid_digits=digits)
        return plan_code(upstream, old, looker, Preserved(self._application), policy, adopt=self._adopt)

    def obstacles(self, plan: CodePlan) -> Iterator[TradekeepError]:
        """See CodeLayout."""
        dependencies = self._application.profile.deploy.dependencies
        if dependencies is not None:
            try:
                self._check_link(dependencies.environment)
            except TradekeepError as error:
                yield error

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
        set_aside: Optional[Replacement] = None
        if dependencies is not None and environment is not None:
            found = self._check_link(dependencies.environment)
            if found != environment:
                link = code.symlink(dependencies.environment, environment)
                if self._adopt and os.path.isdir(link.live) and not os.path.islink(link.live):
                    kept = self._checkout / ENVIRONMENTS / f"{REPLACED}{release}"
                    link = set_aside = replace(link, kept=str(kept), filled=True)
                replacements.append(link)
        return Staged(filled, replacements, self._checkout, set_aside=set_aside)

    def _check_link(self, name: str) -> Optional[str]:
        link = self._checkout / name
        leads_to = check_link(link, adopter=self._account if self._adopt else None)
        if self._adopt and leads_to is None and os.path.lexists(link):
            self._check_place_to_keep(link)
        return leads_to

    def _check_place_to_keep(self, link: Path) -> None:
        environments = self._checkout / ENVIRONMENTS
        beside = environments if os.path.lexists(environments) else self._checkout
        if _filesystem(link) != _filesystem(beside):
            raise TradekeepError(
                f"lies on another filesystem than {beside}, where it would be kept",
                path=link,
                hint=f"move it away: {pasted('mv', link, f'{link}.old')}",
            )


def _filesystem(path: Path) -> object:
    with os_errors(path):
        return path.lstat().st_dev
