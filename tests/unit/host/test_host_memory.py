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
