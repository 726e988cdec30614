# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What hosts say, made safe to show: on the terminal of whoever runs a play, and in Markdown."""

from __future__ import annotations

import re
from typing import Callable

from ..module_utils.core.formatting import printable

_ACTS_IN_MARKDOWN = re.compile(r"[^\w\s.,/=]|_")


def markdown(text: object) -> str:
    """The text as one line of Markdown that is neither markup, nor HTML, nor a mention, nor the end of a cell."""
    return _ACTS_IN_MARKDOWN.sub(lambda sign: f"&#{ord(sign[0])};", printable(text))


class FilterModule:
    """The collection's filters for text."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Filters by name."""
        return {"printable": _printable, "markdown": markdown}


def _printable(text: object) -> str:
    """The text as one line without a character that acts; of too much of it the beginning and the end."""
    return printable(text)
