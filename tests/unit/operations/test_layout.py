# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an archive of another program has the root: as the profile says, wherever somebody called tar."""

from __future__ import annotations

import tarfile

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import UsageError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
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


def old_archive(place, *names):
    """Of files that hold their names; the last is another name of the first."""
    archive = place / "old.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in names:
            (place / "file").write_text(name)
            tar.add(place / "file", name, recursive=False)
        again = tarfile.TarInfo(f"{names[0]}.again")
        again.type, again.linkname = tarfile.LNKTYPE, names[0]
        tar.addfile(again)
    return str(archive)


def below(root):
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("strip", "prefix"), [(None, ""), ("data", "data/"), ("opt/x", "opt/x/"), (".", "")])
def test_what_was_made_in_a_directory_of_the_data_is_put_into_it(bench, tmp_path, strip, prefix):
    names = (f"{prefix}fills.json", f"{prefix}sub/x.json")
    archive = old_archive(tmp_path, *names, "elsewhere/bot.py")
    wanted = {"data/fills.json": names[0], "data/sub/x.json": names[1], "data/fills.json.again": names[0]}
    if not prefix:
        wanted["data/elsewhere/bot.py"] = "elsewhere/bot.py"
    assert restore(bench.application, bench.ports, reference=archive, strip=strip, into="data", dry_run=True).changed
    assert below(bench.root) == {}
    restore(bench.application, bench.ports, reference=archive, strip=strip, into="data/")
    assert below(bench.root) == wanted
    assert not restore(bench.application, bench.ports, reference=archive, strip=strip, into="data").changed
    restore(bench.application, bench.ports, reference=archive, strip=strip, into="data", to=str(tmp_path / "to"))
    assert below(tmp_path / "to") == wanted


@pytest.mark.parametrize("into", ["../x", "/data", "", "data/../..", "."])
def test_only_a_directory_below_the_root_can_be_the_one(bench, tmp_path, into):
    archive = old_archive(tmp_path, "fills.json")
    with pytest.raises(UsageError, match="no directory below the root"):
        restore(bench.application, bench.ports, reference=archive, into=into)
    assert below(bench.root) == {}


@pytest.mark.parametrize("said", [{"strip": "data"}, {"into": "data"}])
def test_a_backup_of_ours_says_itself_where_its_files_belong(bench, said):
    (bench.root / "data/fills.json").write_text("{}")
    made = backup(bench.application, bench.ports).record["backup"]["path"]
    with pytest.raises(UsageError, match="says itself") as caught:
        restore(bench.application, bench.ports, reference=made, **said)
    assert caught.value.hint == "leave out --strip and --into"


def test_an_archive_of_which_the_profile_has_nothing_says_what_to_do(bench, tmp_path):
    restore(bench.application, bench.ports, reference=old_archive(tmp_path, "fills.json"))
    assert any("--into" in note and "fills.json" in note for note in bench.notes)
