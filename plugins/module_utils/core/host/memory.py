# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""How Python looks after its memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# What the process came with: asked for each time, two that overlap in threads would put back each other's.
_ORDINARY = gc.get_threshold()
_RARELY = 200_000


@contextmanager
def many_objects() -> Iterator[None]:
    """Hundreds of thousands of things are about to be kept, none of which refers to another.

    Python would look through all of them again and again for some that refer to one another and can be thrown away.
    """
    gc.set_threshold(max(_RARELY, _ORDINARY[0]), *_ORDINARY[1:])
    try:
        yield
    finally:
        gc.set_threshold(*_ORDINARY)
