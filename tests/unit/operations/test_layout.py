# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an archive of another program has the root: as the profile says, wherever somebody called tar."""

from __future__ import annotations

import tarfile

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import UsageError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.layout import data_prefix
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore

PROFILE = {"name": "bot", "components": {"data": {"paths": ["data"], "directories": ["data"]}}}
FILES = ["data/fills.db", "data/sub/x.json"]


@pytest.fixture
def bench(make_bench):
    made = make_bench(PROFILE)
    made.make_tree()
    return made


@pytest.mark.parametrize("prefix", ["", "bot", "opt/bot", "srv/bots/one"])
def test_the_profile_finds_the_root(bench, prefix):
    files = [f"{prefix}/{path}".lstrip("/") for path in FILES]
    assert data_prefix(bench.application, files) == prefix
    beside = f"{prefix}/bot.py".lstrip("/")
    assert data_prefix(bench.application, [*files, beside]) == prefix


def test_what_fits_in_several_ways_is_refused_with_each_of_them(bench):
    files = ["data/data/fills.db"]
    with pytest.raises(UsageError) as caught:
        data_prefix(bench.application, files)
    assert caught.value.hint == "give --strip . for data/data/fills.db or --strip data for data/fills.db"
    assert [data_prefix(bench.application, files, strip) for strip in (".", "data/")] == ["", "data"]
    with pytest.raises(UsageError, match="no such directory"):
        data_prefix(bench.application, files, "dat")


def test_what_lies_beside_the_data_does_not_matter(bench):
    assert data_prefix(bench.application, ["old/info.txt", "old/live/data/x", "old/live/bot.py"]) == "old/live"
    with pytest.raises(UsageError, match="several ways"):
        data_prefix(bench.application, ["one/data/x", "two/data/x"])


def test_what_the_profile_does_not_know_stays_as_it_is(bench):
    assert data_prefix(bench.application, ["one/x", "one/y"]) == ""
    assert data_prefix(bench.application, []) == ""


@pytest.mark.parametrize("name", ["data", "bot/data", "opt/bot/data"])
def test_a_restore_puts_it_where_the_profile_has_it(bench, tmp_path, name):
    (tmp_path / "fills.json").write_text("{}")
    archive = tmp_path / "old.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "fills.json", f"{name}/fills.json")
    restore(bench.application, bench.ports, reference=str(archive))
    assert [str(path.relative_to(bench.root)) for path in bench.root.rglob("*.json")] == ["data/fills.json"]
