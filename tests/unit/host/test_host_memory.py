# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Python's own housekeeping is as it was once an operation is over."""

from __future__ import annotations

import gc

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.memory import many_objects


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
