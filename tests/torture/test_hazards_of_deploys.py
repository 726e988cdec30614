# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""HAZARDS D: every case against tradekeep, and against the known ways that lose it."""

from __future__ import annotations

from typing import Any

import pytest
from cases import Case, play
from catalogue import CASES
from deployers import AnsibleGit, Deployer
from surviving import policies, survive

needs_root = pytest.mark.root


def of(hazard: int) -> Any:
    """Each case of a hazard with each policy."""
    chosen = [
        pytest.param(case, policy, id=f"{case.name}-{policy}", marks=[needs_root] if case.root else [])
        for case in CASES
        if case.hazard == hazard
        for policy in policies(case)
    ]
    assert chosen
    return pytest.mark.parametrize(("case", "policy"), chosen)


@of(1)
def test_hazard_d1_upstream_tracks_what_is_live(case: Case, policy: str) -> None:
    survive(case, policy)


@of(2)
def test_hazard_d2_the_rollback_of_such_a_deploy(case: Case, policy: str) -> None:
    survive(case, policy)


@of(3)
def test_hazard_d3_upstream_ceases_to_track_data(case: Case, policy: str) -> None:
    survive(case, policy)


@of(4)
def test_hazard_d4_a_directory_becomes_something_else(case: Case, policy: str) -> None:
    survive(case, policy)


@of(5)
def test_hazard_d5_ignore_rules_that_go_or_lie(case: Case, policy: str) -> None:
    survive(case, policy)


@of(6)
def test_hazard_d6_data_behind_links_and_mounts(case: Case, policy: str) -> None:
    survive(case, policy)


@of(7)
def test_hazard_d7_protections_of_git_that_are_none(case: Case, policy: str) -> None:
    survive(case, policy)


@of(8)
def test_hazard_d8_what_stops_git_half_way(case: Case, policy: str) -> None:
    survive(case, policy)


@of(9)
def test_hazard_d9_nothing_is_copied_away(case: Case, policy: str) -> None:
    survive(case, policy)


@of(10)
def test_hazard_d10_files_that_are_open(case: Case, policy: str) -> None:
    survive(case, policy)


@of(11)
def test_hazard_d11_what_was_done_on_the_server(case: Case, policy: str) -> None:
    survive(case, policy)


@of(12)
def test_hazard_d12_shallow_clones_hooks_modes_and_names(case: Case, policy: str) -> None:
    survive(case, policy)


@of(13)
def test_hazard_d13_what_an_export_leaves_out(case: Case, policy: str) -> None:
    survive(case, policy)


LOST = [
    pytest.param(case, way, id=f"{case.name}-{way.name}", marks=[needs_root] if case.root else [])
    for case in CASES
    for way in case.known_ways()
    if case.is_lost_by(way)
]


@pytest.mark.parametrize(("case", "way"), LOST)
def test_the_known_way_loses_it(case: Case, way: Deployer) -> None:
    """Otherwise the case would show nothing."""
    assert play(case, way) != []


def test_the_whole_of_ansible_does_what_its_module_does() -> None:
    case = CASES[0]
    assert play(case, AnsibleGit(whole=True)) == play(case, AnsibleGit()) != []
