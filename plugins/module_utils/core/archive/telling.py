# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the writer of an archive tells whoever reads it back meanwhile."""

from __future__ import annotations

from typing import Callable, NamedTuple, Union


class Span(NamedTuple):
    """Files that follow one another in an archive, to be recognized by one digest over all of their bytes."""

    first: int
    """How many entries come before them."""
    entries: int
    content: int
    """Bytes of content alone."""
    size: int
    """All that they take in the archive, headers and filling included."""
    sha256: bytes


Tell = Callable[[Union[bytes, Span]], None]
"""Hears the manifest's text as soon as it is known, before the entries are written; a span in place of its lines."""


def tell_nobody(_next: Union[bytes, Span]) -> None:
    """Nobody reads the archive back while it is written."""
