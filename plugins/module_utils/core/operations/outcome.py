# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What every operation returns to its door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from ..errors import ExitStatus


@dataclass(frozen=True)
class Outcome:
    """The result of one operation, the same for the command and the modules.

    record: JSON-ready facts of stable shape. before/after: facts for a diff (sizes, digests, counts, modes), never
    content.
    lines: the account for people. fitted: the same for a terminal of so many columns, where that makes a difference.
    status: exit status of the command; FINDINGS and worse fail a module.
    """

    changed: bool
    record: dict[str, Any]
    lines: tuple[str, ...] = ()
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    status: ExitStatus = ExitStatus.DONE
    fitted: Optional[Callable[[int], Sequence[str]]] = None
