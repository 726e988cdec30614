# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What hosts say, made safe to show: on the terminal of whoever runs a play, and in Markdown."""

from __future__ import annotations

from typing import Callable

from ..module_utils.core.formatting import markdown, printable


class FilterModule:
    """The collection's filters for text."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Filters by name."""
        return {"printable": printable, "markdown": markdown}
