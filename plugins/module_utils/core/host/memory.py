# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""How Python looks after its memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# What the process came with: asked for each time, two that overlap in threads would put back each other's.
_ORDINARY = gc.get_threshold()
_RARELY = 200_000
_LARGE = 31 << 20
"""Bytes; a little less than what the C library lets itself be taught by (DEFAULT_MMAP_THRESHOLD_MAX)."""


def keep_freed_memory() -> None:
    """Have blocks of a megabyte used again, instead of given back to the kernel one by one and asked for anew.

    The kernel clears every page that it hands out: a seventh of the time of a backup. glibc takes the size of a large
    block that is freed for one that is often needed (mallopt(3), M_MMAP_THRESHOLD). Nothing of this one is ever
    touched, so that it takes no memory; other C libraries do not mind.
    """
    with suppress(MemoryError):
        bytes(_LARGE)


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
