# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Python's own housekeeping is as it was once an operation is over."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import memory
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.memory import many_objects

PAGES_ASKED_FOR = """
import importlib.util, resource, sys
specification = importlib.util.spec_from_file_location("memory", sys.argv[1])
memory = importlib.util.module_from_spec(specification)
specification.loader.exec_module(memory)
if sys.argv[2] == "kept":
    memory.keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF)
for _time in range(200):
    parts = [b"x" * (1 << 20) for _part in range(3)]
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_minflt - before.ru_minflt, after.ru_maxrss - before.ru_maxrss)
"""


def pages_asked_for(how):
    command = [sys.executable, "-S", "-c", PAGES_ASKED_FOR, memory.__file__, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split()))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is taught so")
def test_freed_blocks_are_used_again():
    (pages, peak), (pages_kept, peak_kept) = pages_asked_for("ordinary"), pages_asked_for("kept")
    assert pages_kept * 10 < pages
    # What taught it was never touched.
    assert peak_kept < peak + 2_000


def test_the_collector_is_put_back_whatever_happens():
    before = gc.get_threshold()
    with pytest.raises(ValueError), many_objects():
        assert gc.isenabled()
        assert gc.get_threshold()[0] > before[0]
        raise ValueError
    assert gc.get_threshold() == before


def test_two_at_once_leave_it_as_it_was():
    before = gc.get_threshold()
    first, second = many_objects(), many_objects()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert gc.get_threshold() == before
