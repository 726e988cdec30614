# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Merge semantics and round trips, as properties; calendars as systemd reads them."""

from __future__ import annotations

import copy
import shutil
import subprocess
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import (
    parse_configuration,
    render_configuration,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import (
    built_in_names,
    merge,
    resolve_application,
    resolve_mapping,
    resolve_profile,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profiles import BUILT_IN
from ansible_collections.tradekeep.ops.plugins.module_utils.core.vocabulary import parse_calendar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# On a fresh machine hypothesis first builds its tables, on a busy one everything takes long: neither is a fault.
UNTIMED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

KEYS = st.sampled_from(["a", "b", "c", "d"])
SCALARS = st.one_of(st.integers(), st.booleans(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
MAPPINGS = st.dictionaries(KEYS, st.recursive(SCALARS, lambda inner: st.dictionaries(KEYS, inner, max_size=3)))
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


@st.composite
def components(draw: st.DrawFn) -> dict[str, Any]:
    made = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        component: dict[str, Any] = {"paths": [name], "directories": [f"{name}/{draw(NAMES)}"]}
        component["file_mode"] = draw(st.sampled_from(["0600", "640", "0644"]))
        component["critical"] = draw(st.booleans())
        component["files"] = [{"pattern": f"{name}/x.json", "template": draw(MAPPINGS)}, {"pattern": "*.[jd]*"}]
        component["description"] = draw(st.from_regex(r"[ -~é]{0,8}", fullmatch=True))
        made[name] = component
    return made


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    definition: dict[str, Any] = {"components": draw(components()), "retention": {"daily": draw(st.integers(0, 99))}}
    if draw(st.booleans()):
        definition["extends"] = draw(st.sampled_from(built_in_names()))
        # Names of their own, so that nothing overlaps what the built-in keeps.
        definition["components"] = {f"zz_{name}": {"paths": [f"zz/{name}"]} for name in definition["components"]}
    else:
        definition.update(name=draw(NAMES), root="/opt/bot", owner=draw(NAMES))
    return definition


@UNTIMED
@given(MAPPINGS)
def test_merging_nothing_changes_nothing(base: dict[str, Any]) -> None:
    assert merge(base, {}) == base
    assert merge({}, base) == base
    assert merge(base, base) == base


@UNTIMED
@given(MAPPINGS, MAPPINGS)
def test_merging_twice_is_merging_once_and_leaves_its_inputs_alone(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = copy.deepcopy((base, over))
    once = merge(base, over)
    assert merge(once, over) == once
    assert (base, over) == before
    assert set(once) == set(base) | set(over)


@UNTIMED
@given(definitions())
def test_resolving_is_a_fixed_point(definition: dict[str, Any]) -> None:
    before = copy.deepcopy(BUILT_IN)
    mapping = resolve_mapping(definition)
    assert resolve_mapping(mapping) == mapping
    assert resolve_profile(mapping) == resolve_profile(definition)
    assert before == BUILT_IN


@UNTIMED
@given(definitions(), st.booleans())
def test_the_configuration_survives_its_text(definition: dict[str, Any], system: bool) -> None:
    application = resolve_application(definition, owner="bot", become=system, passphrase_file="/etc/tradekeep/key")
    text = render_configuration(application)
    assert parse_configuration(text, path="x.json") == application
    assert render_configuration(parse_configuration(text.encode(), path="x.json")) == text


def test_a_mapping_merges_over_a_built_in() -> None:
    profile = resolve_profile(
        {
            "extends": "kalshi",
            "owner": "me",
            "retention": {"daily": 14},
            "services": [],
            "home": None,
            "components": {"state": None, "databases": {"exclude": ["*.tmp"]}, "notes": {"paths": ["notes"]}},
        }
    )
    by_name = {component.name: component for component in profile.components}
    assert set(by_name) == {"credentials", "databases", "preferences", "notes"}
    assert by_name["databases"].exclude == ("*.tmp",)
    assert by_name["databases"].file_mode == 0o600
    assert (profile.retention.daily, profile.retention.weekly) == (14, 4)
    assert (profile.name, profile.owner, profile.services, profile.home) == ("kalshi", "me", (), None)


CALENDARS = """daily|hourly UTC|*-*-* 02:00:00|Mon-Fri 17:00|Sun 03:00|*:0/15|*-02~03|*-*-* 00/2:00|Monday|Mon UTC
Mon,Wed..Fri 2026-*-1..7 9..17:30|Sat,Thu,Mon..Wed,Sat..Sun|Mon *-05~07/1|05:40 Europe/Berlin|*-*-* *:*:*|2003-03-05
UTC|25:00|12:60|garbage|Sun03:00|10:00; rm|daily daily|Europe/Berlin|12:5.1,2/3|17:00 New York|-f"""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("calendar", CALENDARS.replace("\n", "|").split("|"))
def test_calendars_are_read_as_systemd_reads_them(calendar: str) -> None:
    accepted = subprocess.run(["systemd-analyze", "calendar", "--", calendar], capture_output=True).returncode == 0
    try:
        parse_calendar(calendar)
    except ValueError:
        assert not accepted
    else:
        assert accepted
