# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What was asked for, and the application with what was asked for in place of what the profile says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Optional

from ...application import Application
from ...deploy_schema import DEPLOY
from ...deploy_settings import CollisionPolicy
from ...errors import ConfigurationError, UsageError
from ...profile import profile_as_mapping
from .preserved import Preserved

_OVERRIDES = ("repository", "on_collision", "backup_first", "layout")


@dataclass(frozen=True)
class DeployRequest:
    """One deploy. ref: branch, tag or commit; None with rollback. The rest overrides the profile where it is given.

    expected: with rollback, the commit that must stand now; another one is left alone. by: who asked, for the record.
    leave_down: start nothing that did not run before, as is needed where the data comes only after the code.
    force: go on although a process that the services do not own writes the data.
    adopt: what no deploy put there, in the place of code or of the link to the environment, makes way and is kept.
    """

    ref: Optional[str] = None
    rollback: bool = False
    repository: Optional[str] = None
    on_collision: Optional[str] = None
    backup_first: Optional[str] = None
    layout: Optional[str] = None
    expected: Optional[str] = None
    by: str = ""
    leave_down: bool = False
    force: bool = False
    adopt: bool = False

    def __post_init__(self) -> None:
        if self.rollback == bool(self.ref):
            raise UsageError("name what to deploy, or say --rollback", hint="tradekeep deploy main")
        if self.expected and not self.rollback:
            raise UsageError("an expected commit belongs to a rollback")

    def as_dict(self) -> dict[str, Any]:
        """What was given, for the process that carries it out."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value}


def requested_application(application: Application, request: DeployRequest) -> Application:
    """The application as this deploy sees it. Raises ConfigurationError for what cannot be deployed."""
    given = {key: getattr(request, key) for key in _OVERRIDES if getattr(request, key)}
    if request.rollback:
        # Going back must not fail for what going forward has left alone.
        given.setdefault("on_collision", CollisionPolicy.KEEP_LIVE.value)
    if given:
        mapping = profile_as_mapping(application.profile)["deploy"]
        deploy = DEPLOY.read({**mapping, **given}, "deploy")
        application = dataclasses.replace(application, profile=dataclasses.replace(application.profile, deploy=deploy))
    _check_places(application)
    Preserved(application)
    if not request.rollback and not application.profile.deploy.repository:
        raise ConfigurationError(
            "expected where git fetches from, found nothing",
            path="deploy.repository",
            hint="set deploy_repository, or say --repository",
        )
    return application


def _check_places(application: Application) -> None:
    """A deploy must not be able to reach its own records and mirror."""
    checkout, state = PurePosixPath(application.checkout), PurePosixPath(application.state_dir)
    if state == checkout or checkout in state.parents or state in checkout.parents:
        raise ConfigurationError(
            f"expected a directory apart from the code, found {str(state)!r} around or inside {str(checkout)!r}",
            path="state_dir",
            hint="name the checkout in deploy.directory, or choose another directory",
        )
