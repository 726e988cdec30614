# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Data that belongs to another account than the configured one: it is not taken from that account without a word.

A bot that runs as somebody else, in a container for instance, could not write any more.
"""

from __future__ import annotations

import os
from typing import Optional

from ..application import Application
from ..errors import ConfigurationError
from ..host.ownership import name_of_uid, uid_of
from .accounts import named_accounts
from .places import places

ROOT_UID = 0


def refuse_takeover(application: Application) -> None:
    """Raise where ``foreign_owner`` finds something."""
    problem = foreign_owner(application)
    if problem is not None:
        raise problem


def foreign_owner(application: Application) -> Optional[ConfigurationError]:
    """What is wrong with the root, or else with the first component, that another account than the profile's has.

    Root's own is nobody's yet. Accounts that the profile names and that are still to be made have nothing here.
    """
    if not application.system:
        return None
    known = {ROOT_UID, *_known(application)}
    root = str(application.root)
    found = [root, *(f"{root}/{path}" for item in application.profile.components for path in places(root, item.paths))]
    for path in found:
        try:
            uid = os.lstat(path).st_uid
        except OSError:
            continue
        if uid not in known:
            return _refusal(application, path, name_of_uid(uid))
    return None


def _refusal(application: Application, path: str, owner: str) -> ConfigurationError:
    said = f"'{owner}'" if owner.startswith("#") else owner
    return ConfigurationError(
        f"belongs to {owner}, and tradekeep_owner is {application.owner}; nothing was changed",
        path=path,
        hint=f"set tradekeep_owner to {said}; or layout_take_over: true (tree --fix --take-over) gives it to "
        f"{application.owner}, and nothing that runs as {owner} can write there any more",
    )


def _known(application: Application) -> set[int]:
    uids = set()
    for name in named_accounts(application):
        try:
            uids.add(uid_of(name))
        except ConfigurationError:
            continue
    return uids
