# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Retention: calendar buckets by example, and what holds for every history."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Retention
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.retention import decide
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.backup import Backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.choice import CLOCK_TOLERANCE
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def made(moment, good=True, pinned=False):
    name = f"p_{moment:%Y%m%d_%H%M%S}" + ("_n" if pinned else "") + ("" if good else "_bad") + ".tar.gz"
    return Backup(
        path=Path("/b") / name,
        name=name,
        label=None,
        moment=moment,
        tier="daily",
        pinned=pinned,
        encrypted=False,
        size=1,
        sha256=None,
        verified_at=moment if good else None,
    )


def of_damaged_data(moment):
    """A backup that was made of damaged data, and is whole."""
    return replace(made(moment), name=f"p_{moment:%Y%m%d_%H%M%S}_d.tar.gz", problem="damaged when made", damaged=True)


def kept(backups, retention, now=NOW):
    return {item.backup.name for item in decide(backups, retention, now) if item.keep}


backups_strategy = st.lists(
    st.builds(
        made,
        st.integers(-400 * 24, 72).map(lambda hours: NOW + timedelta(hours=hours)),
        st.booleans(),
        st.integers(0, 9).map(lambda n: n == 0),
    ),
    max_size=60,
    unique_by=lambda item: item.name,
)
small = st.integers(0, 15)
retentions = st.builds(
    Retention, daily=small, weekly=small, monthly=small, keep_last=small, within_days=st.integers(0, 60)
)


def test_days_without_a_backup_do_not_count():
    days = [NOW - timedelta(days=n) for n in (0, 10, 20, 30, 40)]
    result = kept([made(day) for day in days], Retention(daily=3))
    assert result == {made(day).name for day in days[:3]}


def test_newest_of_a_day_stands_for_it():
    day = [NOW - timedelta(hours=n) for n in (0, 3, 6, 30, 33, 60)]
    assert kept([made(moment) for moment in day], Retention(daily=2)) == {made(day[0]).name, made(day[3]).name}


def test_oldest_is_kept_while_places_are_left():
    moments = [NOW, NOW - timedelta(hours=1), NOW - timedelta(hours=2)]
    assert kept([made(moment) for moment in moments], Retention(daily=7)) == {
        made(moments[0]).name,
        made(moments[2]).name,
    }


def test_seven_four_twelve_after_two_years():
    history = [made(NOW - timedelta(days=n)) for n in range(730)]
    result = decide(history, Retention(daily=7, weekly=4, monthly=12), NOW)
    reasons = [reason for item in result if item.keep for reason in item.reasons]
    assert (reasons.count("daily"), reasons.count("weekly"), reasons.count("monthly")) == (7, 4, 12)


def test_iso_weeks_at_the_turn_of_the_year():
    moments = [
        datetime(2027, 1, 2, tzinfo=timezone.utc),
        datetime(2026, 12, 29, tzinfo=timezone.utc),
        datetime(2026, 12, 27, tzinfo=timezone.utc),
    ]
    result = kept([made(moment) for moment in moments], Retention(weekly=2), moments[0])
    assert result == {made(moments[0]).name, made(moments[2]).name}


def test_hazard_b4_thirty_days_count_from_the_newest_backup():
    history = [made(NOW - timedelta(days=n)) for n in (0, 29, 30, 31)]
    assert len(kept(history, Retention(within_days=30), NOW + timedelta(days=3650))) == 3


def test_what_was_made_of_damaged_data_stays_until_a_newer_backup_is_good():
    history = [of_damaged_data(NOW - timedelta(days=n)) for n in range(9)] + [made(NOW - timedelta(days=9))]
    assert len(kept(history, Retention(daily=3))) == 10


def test_what_was_made_of_damaged_data_is_kept_by_the_same_rules_beside_the_good():
    good = [made(NOW - timedelta(days=n)) for n in (0, 20, 21, 22)]
    damaged = [of_damaged_data(NOW - timedelta(days=n)) for n in range(1, 20)]
    wanted = {item.name for item in (*good[:3], *damaged[:3])}
    assert kept([*good, *damaged], Retention(daily=3)) == wanted
    reasons = {item.backup.name: item.reasons for item in decide([*good, *damaged], Retention(daily=3), NOW)}
    assert reasons[damaged[1].name] == ("damaged, daily",)


@given(backups_strategy, st.lists(st.integers(-400 * 24, 72), max_size=20, unique=True), retentions)
@settings(max_examples=100, deadline=None)
def test_what_was_made_of_damaged_data_takes_no_place_from_the_good(backups, hours, retention):
    damaged = [of_damaged_data(NOW + timedelta(hours=number)) for number in hours]
    assert kept([*backups, *damaged], retention) - {item.name for item in damaged} == kept(backups, retention)


def test_without_rules_everything_stays():
    history = [made(NOW - timedelta(days=n)) for n in range(9)]
    assert len(kept(history, Retention())) == 9


@given(backups_strategy, retentions, st.randoms())
@settings(max_examples=150, deadline=None)
def test_deterministic_whatever_the_order(backups, retention, random):
    first = decide(backups, retention, NOW)
    random.shuffle(backups)
    assert decide(backups, retention, NOW) == first


@given(backups_strategy, retentions)
@settings(max_examples=300, deadline=None)
def test_idempotent(backups, retention):
    left = [item.backup for item in decide(backups, retention, NOW) if item.keep]
    assert all(item.keep for item in decide(left, retention, NOW))


@given(backups_strategy, retentions)
@settings(max_examples=150, deadline=None)
def test_hazard_b4_last_good_named_future_and_bad_ones_stay(backups, retention):
    result = kept(backups, retention)
    dated = [item for item in backups if item.good and item.moment <= NOW + CLOCK_TOLERANCE]
    if dated:
        assert max(item.moment for item in dated) in {item.moment for item in dated if item.name in result}
    for item in backups:
        if item.pinned or not item.good or item.moment > NOW + CLOCK_TOLERANCE:
            assert item.name in result


@pytest.mark.parametrize(
    ("what", "options", "moment"),
    [
        pytest.param("named", {"pinned": True}, NOW - timedelta(days=300), id="named"),
        pytest.param("bad", {"good": False}, NOW - timedelta(days=300), id="bad"),
        pytest.param("future", {}, NOW + timedelta(days=3), id="of the future"),
    ],
)
def test_hazard_b4_what_is_set_aside_stays_and_takes_no_place(what, options, moment):
    good = [made(NOW - timedelta(days=day)) for day in range(4)]
    aside = made(moment, **options)
    assert kept([*good, aside], Retention(keep_last=2)) == {good[0].name, good[1].name, aside.name}, what


@given(backups_strategy, retentions, st.sampled_from(["daily", "weekly", "monthly", "keep_last", "within_days"]))
@settings(max_examples=200, deadline=None)
def test_monotone(backups, retention, rule):
    if retention == Retention():
        return
    more = replace(retention, **{rule: getattr(retention, rule) + 3})
    assert kept(backups, retention) <= kept(backups, more)


@given(backups_strategy, retentions)
@settings(max_examples=150, deadline=None)
def test_hazard_b4_failed_backups_never_change_which_good_ones_stay(backups, retention):
    good = [item for item in backups if item.good]
    assert kept(good, retention) == kept(backups, retention) & {item.name for item in good}


@given(backups_strategy, retentions, st.integers(-5000, 5000))
@settings(max_examples=150, deadline=None)
def test_hazard_b4_a_clock_jump_never_deletes_more_than_the_true_time_would(backups, retention, days):
    """Back: more is future-dated, and such ones stay. Forward: the rules do not look at the clock."""
    past = [item for item in backups if item.moment <= NOW]
    removed = {item.name for item in past} - kept(past, retention)
    jumped = NOW + timedelta(days=days)
    dated = [item for item in past if item.moment <= jumped + CLOCK_TOLERANCE]
    if len(dated) == len(past):
        assert {item.name for item in past} - kept(past, retention, jumped) == removed
    else:
        assert {item.name for item in past if item not in dated} <= kept(past, retention, jumped)
