# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot moves from one server to another while it trades: nothing is lost, and it never runs twice."""

from __future__ import annotations

import json

from operations_handover.servers import LARGE, PREFERENCES, Pair


def test_hazard_e1_a_bot_moves_while_it_trades(pair: Pair) -> None:
    done = pair.take()
    assert done.returncode == 0, done.stderr + done.stdout
    record = json.loads(done.stdout)["record"]
    assert record["state"] == "migrated"
    assert pair.alive == ["new"]
    assert pair.old.masked and not pair.new.masked
    assert pair.old.fence is not None and pair.old.fence["migration"]["id"] == record["id"]
    assert pair.new.fence is None
    pair.check_never_two()
    assert (pair.new.root / LARGE).read_bytes() == (pair.old.root / LARGE).read_bytes()
    assert (pair.new.root / PREFERENCES).read_text() == '{"position_size": 3}'
    before = pair.promised
    pair.wait(lambda: pair.promised > before)
    pair.check_nothing_lost(pair.new)
