# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What git itself thinks of an adopted checkout, brought up to date by the same exchange as the code.

HEAD is detached at the commit; no branch is ever moved, so that nothing becomes unreachable.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...git.checkout import Checkout
from ...git.mirror import Mirror
from ...host.files import os_errors, write_all
from ...transaction.plan import Replacement
from ...transaction.stage import Stage


def stage_git_view(checkout: Checkout, mirror: Mirror, commit: str, stage: Stage) -> list[Replacement]:
    """Bring the commit's objects into the checkout, and stage its HEAD and its index; none for a linked work tree."""
    if checkout.common_dir != checkout.directory / ".git":
        return []
    checkout.receive(mirror, commit)
    return [
        _staged(checkout, stage, "index", mirror.index_of(commit)),
        _staged(checkout, stage, "HEAD", f"{commit}\n".encode("ascii")),
    ]


def _staged(checkout: Checkout, stage: Stage, name: str, content: bytes) -> Replacement:
    live = checkout.directory / ".git" / name
    staged = Path(stage.path_for(f".git/{name}"))
    with os_errors(staged):
        staged.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, content)
            if os.geteuid() == 0:
                os.fchown(descriptor, checkout.account.uid, checkout.account.gid)
            os.fchmod(descriptor, live.lstat().st_mode & 0o777 if os.path.lexists(live) else 0o644)
        finally:
            os.close(descriptor)
    return Replacement(str(live), str(staged), stage.kept_for(f".git/{name}"))
