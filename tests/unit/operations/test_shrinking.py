# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bot deletes itself, told from a loss: the laws of the one place that decides."""

from __future__ import annotations

import dataclasses

from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.shrinking import fewer_rows, with_usual
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from hypothesis import given
from hypothesis import strategies as st

PATH = "data/bot.db"
BOT = resolve_application(
    {"name": "bot", "components": {"data": {"paths": ["data"]}}}, root="/srv/bot", owner="bot", become=False
)
ROWS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10_000), min_size=1)


def limited(percent: float, *may_shrink: str):
    profile = dataclasses.replace(BOT.profile, maximum_row_loss_percent=percent, tables_may_shrink=may_shrink)
    return dataclasses.replace(BOT, profile=profile)


@given(ROWS, ROWS, st.sampled_from([0.0, 10.0, 50.0, 90.0, 100.0]))
def test_hazard_a3_a_database_that_lost_most_of_its_rows_is_lost(before, now, percent):
    """Unless most of its tables kept theirs; and never one of which no table lost much."""
    found = fewer_rows(limited(percent), PATH, before, now)
    held = sum(min(count, now.get(table, 0)) for table, count in before.items())
    fallen = {t for t, count in before.items() if count >= 20 and now.get(t, 0) < count * (1 - percent / 100)}
    assert {item.table for item in found} == fallen
    kept = {table for table, count in before.items() if count >= 20} - fallen
    whole = held < sum(before.values()) * (1 - percent / 100)
    assert all(item.lost == (item.table not in now or (whole and len(kept) <= len(fallen))) for item in found)


@given(ROWS, ROWS)
def test_what_was_seen_once_is_usual_and_takes_no_guard_from_other_tables(before, now):
    application = limited(50.0)
    first = fewer_rows(application, PATH, before, now)
    usual: dict[str, dict[str, float]] = {}
    for item in first:
        if not item.lost:
            usual = with_usual(usual, PATH, item)
    again = {item.table for item in fewer_rows(application, PATH, before, now, usual)}
    assert not again & set(usual.get(PATH, {}))
    everything_else = {table: 0 for table in before if table in usual.get(PATH, {})}
    gone = fewer_rows(application, PATH, before, everything_else, usual)
    assert {item.table for item in gone if item.lost} >= {t for t, n in before.items() if n >= 20} - set(
        everything_else
    )


@given(ROWS)
def test_what_the_profile_says_may_shrink_to_nothing(before):
    assert fewer_rows(limited(50.0, "bot.db:*"), PATH, before, {}) == []
    assert fewer_rows(limited(0.0, PATH), PATH, before, {}) == []


def test_about_as_much_as_before():
    application = limited(50.0)
    usual = {PATH: {"queue": 80.0}}
    for left, told in ((30, []), (10, []), (9, ["queue"])):
        now = {"queue": left, "fills": 500}
        found = fewer_rows(application, PATH, {"queue": 100, "fills": 500}, now, usual)
        assert [item.table for item in found] == told
        assert not any(item.lost for item in found)
