# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Patterns and what they decide: which component, rule and mode a path has."""

from __future__ import annotations

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.patterns import classify, classify_directory, matches
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_profile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# On a fresh machine hypothesis first builds its tables, on a busy one everything takes long: neither is a fault.
UNTIMED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

PROFILE = resolve_profile(
    {
        "name": "bot",
        "components": {
            "data": {
                "paths": ["data", "top.json"],
                "exclude": ["cache", "data/*/tmp", "*.pyc", "data/exact.txt"],
                "files": [
                    {"pattern": "data/keys/**", "mode": "0400", "secret": True, "owner": "keeper"},
                    {"pattern": "*.db", "kind": "sqlite", "mode": "0600"},
                    {"pattern": "data/**/x.db", "mode": "0644"},
                ],
                "group": "bots",
            }
        },
    }
)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.db", "fills.db", True),
        ("*.db", "a/b/fills.db", True),
        ("*.db", "a.db/b", False),
        ("*.db", "fills.db-wal", False),
        ("*", ".env", True),
        ("a/*", "a/b", True),
        ("a/*", "a/b/c", False),
        ("a/*", "a/", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/x/y/c", True),
        ("a/**/c", "a/xc", False),
        ("**/c", "c", True),
        ("**/c", "x/c", True),
        ("?.db", "ab.db", False),
        ("a?b/c", "a/b/c", False),
        ("[ab].db", "b.db", True),
        ("[!ab].db", "b.db", False),
        ("[!a]/x", "//x", False),
        ("[]].db", "].db", True),
        ("[a-c]", "b", True),
        ("a.db", "axdb", False),
        ("*.db", "new\nline.db", True),
        ("*.db", "caf\udce9.db", True),
    ],
)
def test_matches(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


@UNTIMED
@given(st.from_regex(r"[a-z.+$^()|]{1,6}(/[a-z.+$^()|]{1,6}){0,3}", fullmatch=True))
def test_a_path_without_wildcards_matches_itself_alone(path: str) -> None:
    assert matches(path, path)
    assert not matches(path, path + "x")


def test_the_first_matching_rule_decides() -> None:
    key = classify(PROFILE, "data/keys/deep/x.db")
    assert key is not None
    assert (key.mode, key.secret, key.owner, key.group, key.kind) == (0o400, True, "keeper", "bots", None)
    database = classify(PROFILE, "data/a/x.db")
    assert database is not None
    assert (database.mode, database.kind, database.secret) == (0o600, "sqlite", False)
    plain = classify(PROFILE, "data/a/notes")
    assert plain is not None
    assert (plain.mode, plain.rule) == (0o640, None)


@pytest.mark.parametrize(
    "path",
    [
        "data/cache/a",
        "data/a/cache/b/c",
        "data/a/tmp/deep/b",
        "data/x.pyc",
        "data/exact.txt",
        "other",
        "datax/a",
        "top",
    ],
)
def test_excluded_and_foreign_paths_have_no_class(path: str) -> None:
    assert classify(PROFILE, path) is None


def test_a_component_may_be_a_single_file() -> None:
    assert classify(PROFILE, "top.json") is not None
    assert classify_directory(PROFILE, "") is None


def test_directories_have_a_class_of_their_own() -> None:
    found = classify_directory(PROFILE, "data/a")
    assert found is not None
    assert found.mode == 0o750
    assert classify_directory(PROFILE, "data/a/tmp") is None
    assert classify_directory(PROFILE, "data/a/tmp/x") is None


def test_directories_are_looked_at_once_however_many_files_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.tradekeep.ops.plugins.module_utils.core import patterns

    looked_up: list[str] = []
    counted = patterns._Scope

    class Counting(counted):  # type: ignore[misc, valid-type]
        def __init__(self, component: object) -> None:
            looked_up.append("scope")
            super().__init__(component)

    monkeypatch.setattr(patterns, "_Scope", Counting)
    classifier = patterns.Classifier(PROFILE)
    for index in range(1000):
        classifier.file(f"data/a/b/{index}.json")
    assert len(looked_up) == 2  # one for each listed path
    assert set(classifier._directories) == {"", "data", "data/a", "data/a/b"}
