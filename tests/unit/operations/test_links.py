# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rule for symlinks in the data: in capture, comparison, verification, drills, and restores of both sorts."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CaptureError,
    ConfigurationError,
    ExitStatus,
    TradekeepError,
    UnsafePathError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.databases import check_databases
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.still_writing import StillWrittenError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.unit_sight import to_back_up, to_drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_profile
from hypothesis import given, settings
from hypothesis import strategies as st


def profile(**more):
    data = {"paths": ["data"], "directories": ["data"], **more}
    return {"name": "bot", "components": {"data": data, "store": {"paths": ["store"], "directories": ["store"]}}}


@pytest.fixture
def make(tmp_path, any_bench):
    def made(**more):
        bench = any_bench(tmp_path, profile(**more), root=str(tmp_path / "app"), owner="bot")
        bench.make_tree()
        return bench

    return made


@pytest.fixture
def big(tmp_path):
    """A larger disk, out of the root."""
    place = tmp_path / "big"
    place.mkdir()
    return place


def put(place: Path, text: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def fills(place: Path, rows: int = 30) -> Path:
    connection = sqlite3.connect(place)
    connection.execute("CREATE TABLE fills (id INTEGER PRIMARY KEY)")
    connection.executemany("INSERT INTO fills VALUES (?)", [(n,) for n in range(rows)])
    connection.commit()
    connection.close()
    return place


def names(bench) -> dict[str, str]:
    with tarfile.open(bench.backups / "latest_backup.tar.gz") as archive:
        return {member.name: member.type.decode() for member in archive}


def below(place: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in place.iterdir() if path.is_file()}


def warned(outcome, path: str) -> bool:
    return any(text.startswith(f"{path}: a symlink") for text in outcome.record["warnings"])


# What is captured


@pytest.mark.parametrize("dry_run", [False, True])
def test_hazard_a9_a_backup_names_the_data_behind_a_symlink_that_it_does_not_hold(make, big, dry_run):
    bench = make()
    (bench.root / "data/fills.db").symlink_to(fills(big / "fills.db"))
    (bench.root / "data/out").symlink_to("../../big")
    (bench.root / "data/in").symlink_to("../code")
    put(bench.root / "code/model.bin", "in the root, and of no component")
    put(bench.root / "data/note.json", "{}")
    (bench.root / "data/beside").symlink_to("note.json")
    (bench.root / "data/store").symlink_to("../store")
    (bench.root / "data/lock").symlink_to("user@host.17")
    outcome = backup(bench.application, bench.ports, dry_run=dry_run)
    assert all(warned(outcome, path) for path in ("data/fills.db", "data/out", "data/in"))
    assert not any(warned(outcome, path) for path in ("data/beside", "data/store", "data/lock"))
    assert str(big / "fills.db") in " ".join(outcome.record["warnings"])


def test_a_thousand_symlinks_are_told_in_a_few_lines(make, big):
    bench = make()
    for number in range(100):
        (bench.root / f"data/{number}").symlink_to(big)
    warnings = backup(bench.application, bench.ports).record["warnings"]
    assert len(warnings) == 21 and warnings[-1] == "and 80 more symlinks to what is not in the backup"


@pytest.mark.parametrize("dry_run", [False, True])
def test_hazard_a9_what_the_profile_requires_behind_a_symlink_is_in_the_backup_or_it_fails(make, big, dry_run):
    bench = make(files=[{"pattern": "data/fills.db", "kind": "sqlite", "required": True}])
    (bench.root / "data/fills.db").symlink_to(fills(big / "fills.db"))
    with pytest.raises(CaptureError, match="the profile requires it, and it is a symlink to"):
        backup(bench.application, bench.ports, dry_run=dry_run)
    (bench.root / "data/fills.db").unlink()
    fills(bench.root / "store/fills.2026")
    (bench.root / "data/fills.db").symlink_to("../store/fills.2026")
    outcome = backup(bench.application, bench.ports, dry_run=dry_run)
    assert outcome.record["warnings"] == []
    if not dry_run:
        assert outcome.record["missing"] == []
        assert names(bench)["store/fills.2026"] == "0" and names(bench)["data/fills.db"] == "2"


def test_hazard_a9_what_stands_for_a_required_database_fails_the_backup_when_it_is_damaged(make):
    bench = make(files=[{"pattern": "data/fills.db", "kind": "sqlite", "required": True}])
    (bench.root / "data/fills.db").symlink_to("../store/fills.db")
    content = fills(bench.root / "store/fills.db", 2000).read_bytes()
    (bench.root / "store/fills.db").write_bytes(content[:9000])
    with pytest.raises(TradekeepError):
        backup(bench.application, bench.ports)


def test_a_database_that_was_moved_and_is_a_symlink_now_is_a_loss_with_its_target(make, big):
    bench = make()
    fills(bench.root / "data/fills.db")
    put(bench.root / "data/note.json", "{}")
    backup(bench.application, bench.ports)
    shutil.move(bench.root / "data/fills.db", big / "fills.db")
    (bench.root / "data/fills.db").symlink_to(big / "fills.db")
    with pytest.raises(CaptureError, match=r"is a symlink to .*/big/fills\.db now, which no backup holds") as caught:
        backup(bench.application, bench.ports)
    assert "follow_links" in caught.value.hint
    shutil.move(big / "fills.db", bench.root / "store/fills.db")
    (bench.root / "data/fills.db").unlink()
    (bench.root / "data/fills.db").symlink_to("../store/fills.db")
    assert backup(bench.application, bench.ports).status == ExitStatus.DONE


def test_a_component_behind_a_symlink_is_refused_unless_another_one_has_it(make, big):
    bench = make(paths=["var/bot"], directories=["var/bot"])
    put(bench.root / "var/bot/x.json", "{}")
    shutil.move(bench.root / "var", big / "var")
    (bench.root / "var").symlink_to(big / "var")
    with pytest.raises(UnsafePathError, match="is a symlink, and var/bot lies behind it"):
        backup(bench.application, bench.ports)
    (bench.root / "var").unlink()
    (bench.root / "var").mkdir()
    (bench.root / "var/bot").symlink_to("../store")
    put(bench.root / "store/x.json", "{}")
    assert backup(bench.application, bench.ports).status == ExitStatus.DONE
    assert names(bench)["store/x.json"] == "0"


# What is accepted restores


def test_hazard_c2_what_verify_and_drill_accept_is_restored_without_its_unsafe_symlinks(make, tmp_path):
    bench = make()
    fills(bench.root / "data/fills.db")
    link = bench.root / "data/strategies"
    link.symlink_to("/home/me/strategies")
    put(bench.root / "data/note.json", "{}")
    backup(bench.application, bench.ports)
    for deep in (False, True):
        found = verify(bench.application, bench.ports, reference="latest", deep=deep)
        assert found.status == ExitStatus.DONE
        assert "data/strategies" in " ".join(found.record["backups"][0]["notes"])
    assert drill(bench.application, bench.ports).status == ExitStatus.DONE
    assert not restore(bench.application, bench.ports).changed, "it is there as it was"
    assert restore(bench.application, bench.ports).record["links_left_out"] == []
    (bench.root / "data/fills.db").unlink()
    link.unlink()
    put(link / "mine.py", "what lies in its place now")
    foreseen = restore(bench.application, bench.ports, dry_run=True)
    outcome = restore(bench.application, bench.ports)
    assert (bench.root / "data/fills.db").exists() and (link / "mine.py").exists()
    for told in (foreseen, outcome):
        assert [item["path"] for item in told.record["changes"]] == ["data/fills.db"]
        assert told.record["links_left_out"] == ["data/strategies"]
    assert any(note.startswith("data/strategies: a symlink that leads out") for note in bench.notes)
    again = restore(bench.application, bench.ports)
    assert not again.changed and "but for 1 symlink" in again.lines[0]
    restore(bench.application, bench.ports, to=str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out/data").iterdir()) == ["fills.db", "note.json"]


def test_a_migration_leaves_alone_what_lies_in_the_place_of_a_refused_symlink(make, tmp_path):
    bench = make()
    put(tmp_path / "old/data/x.json", "{}")
    (tmp_path / "old/data/strategies").symlink_to("/home/me/strategies")
    put(bench.root / "data/strategies/mine.py", "here")
    outcome = migrate(bench.application, bench.ports, source=str(tmp_path / "old"), dry_run=True)
    assert outcome.record["plan"]["only_on_target"] == []


# What became a symlink since


@pytest.fixture
def moved(make, big):
    """The directory of models was moved to a larger disk since the backup, and one model changed."""
    bench = make()
    fills(bench.root / "data/fills.db")
    for name in "abc":
        put(bench.root / f"data/models/{name}.bin", name)
    backup(bench.application, bench.ports)
    shutil.move(bench.root / "data/models", big / "models")
    (bench.root / "data/models").symlink_to(big / "models")
    put(big / "models/b.bin", "changed")
    put(big / "models/new.bin", "new")
    return bench


BEHIND = {"a.bin": "a", "b.bin": "changed", "c.bin": "c", "new.bin": "new"}


def test_hazard_c5_a_directory_that_became_a_symlink_makes_way_as_a_whole(moved, big):
    before = moved.snapshot()
    foreseen = restore(moved.application, moved.ports, dry_run=True)
    assert moved.snapshot() == before
    outcome = restore(moved.application, moved.ports)
    assert outcome.record["changes"] == foreseen.record["changes"]
    models = moved.root / "data/models"
    assert not models.is_symlink() and below(models) == {"a.bin": "a", "b.bin": "b", "c.bin": "c"}
    assert below(big / "models") == BEHIND
    with tarfile.open(outcome.record["safety_backup"]) as archive:
        assert archive.getmember("data/models").linkname == str(big / "models")
    assert any("data/models: a symlink to" in note and "stays as it is" in note for note in moved.notes)
    assert not restore(moved.application, moved.ports, reference=foreseen.record["backup"]).changed


@pytest.mark.parametrize("path", ["data/models/b.bin", "data/models/*.bin", "data/models"])
def test_hazard_c5_a_symlink_does_not_make_way_for_a_part_of_a_directory(moved, big, path):
    before = moved.snapshot()
    if path != "data/models/b.bin":
        for dry_run in (True, False):
            restore(moved.application, moved.ports, paths=(path,), dry_run=dry_run)
        assert below(moved.root / "data/models") == {"a.bin": "a", "b.bin": "b", "c.bin": "c"}
        return
    for dry_run in (True, False):
        with pytest.raises(UnsafePathError, match="only a part of what the backup has") as caught:
            restore(moved.application, moved.ports, paths=(path,), dry_run=dry_run)
        assert "--path data/models" in caught.value.hint and caught.value.path.endswith("data/models")
    assert moved.snapshot() == before and below(big / "models") == BEHIND


def test_a_component_that_became_a_symlink_makes_way_too(make, big):
    bench = make()
    put(bench.root / "data/x.json", "{}")
    put(bench.root / "store/y.json", "{}")
    backup(bench.application, bench.ports)
    shutil.move(bench.root / "data", big / "data")
    (bench.root / "data").symlink_to(big / "data")
    put(big / "data/x.json", "[1]")
    (bench.root / "store/y.json").unlink()
    restore(bench.application, bench.ports, components=("store",))
    assert (bench.root / "data").is_symlink() and (bench.root / "store/y.json").exists()
    with pytest.raises(UnsafePathError, match="a part of the data is a symlink"):
        backup(bench.application, bench.ports)
    first = sorted(bench.backups.glob("bot_*.tar.gz"))[0].name
    foreseen = restore(bench.application, bench.ports, reference=first, dry_run=True)
    outcome = restore(bench.application, bench.ports, reference=first)
    assert foreseen.record["changes"] == outcome.record["changes"]
    assert below(bench.root / "data") == {"x.json": "{}"} and below(big / "data") == {"x.json": "[1]"}


def test_a_migration_follows_no_symlink_of_its_source(make, big, tmp_path):
    bench = make(follow_links=[str(big)])
    put(tmp_path / "old/data/x.json", "{}")
    put(big / "own.json", "this host's")
    (tmp_path / "old/data/own.json").symlink_to(big / "own.json")
    outcome = migrate(bench.application, bench.ports, source=str(tmp_path / "old"), dry_run=True)
    assert outcome.record["plan"]["new"] == ["data/x.json"]


def test_a_symlink_above_all_of_a_component_is_not_replaced(make, big):
    bench = make(paths=["var/bot"], directories=["var/bot"])
    put(bench.root / "var/bot/x.json", "{}")
    put(bench.root / "store/y.json", "{}")
    backup(bench.application, bench.ports)
    shutil.move(bench.root / "var", big / "var")
    (bench.root / "var").symlink_to(big / "var")
    (bench.root / "store/y.json").unlink()
    for dry_run in (True, False):
        with pytest.raises(UnsafePathError, match=r"is a symlink, and var/bot/x\.json lies behind it"):
            restore(bench.application, bench.ports, dry_run=dry_run)
    restore(bench.application, bench.ports, components=("store",))
    assert (bench.root / "store/y.json").exists() and (bench.root / "var").is_symlink()


def test_what_lies_in_the_way_of_a_directory_of_an_archive_without_directories_makes_way(make, tmp_path, big):
    bench = make()
    put(tmp_path / "old/data/models/a.bin", "a")
    subprocess.run(["tar", "-czf", tmp_path / "old.tar.gz", "-C", tmp_path / "old", "data/models/a.bin"], check=True)
    for made in (lambda place: place.symlink_to(big), lambda place: place.write_text("a file")):
        made(bench.root / "data/models")
        restore(bench.application, bench.ports, reference=str(tmp_path / "old.tar.gz"))
        assert below(bench.root / "data/models") == {"a.bin": "a"}
        shutil.rmtree(bench.root / "data/models")


# Links that the profile follows


@pytest.fixture
def following(make, big):
    bench = make(follow_links=[str(big)])
    fills(big / "fills.db")
    (bench.root / "data/fills.db").symlink_to(big / "fills.db")
    for name in "ab":
        put(big / f"models/{name}.json", f'"{name}"')
    (big / "models/again").symlink_to(big)
    (bench.root / "data/models").symlink_to(big / "models")
    return bench


def test_what_lies_behind_a_symlink_that_is_followed_is_captured_in_its_place(following, big):
    for dry_run in (True, False):
        outcome = backup(following.application, following.ports, dry_run=dry_run)
        assert not warned(outcome, "data/fills.db") and not warned(outcome, "data/models")
    held = names(following)
    assert held["data/fills.db"] == held["data/models/a.json"] == "0" and held["data/models"] == "5"
    assert held["data/models/again"] == "2", "nothing goes round in circles"
    sidecar = json.loads(next(following.backups.glob("*.json")).read_text())
    assert sidecar["databases"]["data/fills.db"]["tables"] == {"fills": 30}


def test_hazard_a9_a_symlink_is_followed_to_a_declared_place_alone(following, big, tmp_path):
    (tmp_path / "bigger").mkdir()
    (following.root / "data/out").symlink_to(tmp_path / "bigger")
    (big / "sly").symlink_to(tmp_path / "bigger")
    (following.root / "data/sly").symlink_to(big / "sly")
    outcome = backup(following.application, following.ports)
    assert warned(outcome, "data/out") and warned(outcome, "data/sly")
    assert names(following)["data/out"] == names(following)["data/sly"] == "2"


def test_a_restore_compares_behind_a_symlink_that_is_followed_and_writes_nothing_there(following, big, tmp_path):
    backup(following.application, following.ports)
    assert not restore(following.application, following.ports).changed
    restore(following.application, following.ports, to=str(tmp_path / "out"))
    assert (tmp_path / "out/data/models/a.json").read_text() == '"a"'
    put(big / "models/b.json", '"changed"')
    (following.root / "data/models/new.json").write_text('"new"')
    foreseen = restore(following.application, following.ports, dry_run=True)
    outcome = restore(following.application, following.ports)
    assert foreseen.record["changes"] == outcome.record["changes"]
    models = following.root / "data/models"
    assert not models.is_symlink() and {path.name for path in models.iterdir()} == {"a.json", "b.json"}
    assert (models / "b.json").read_text() == '"b"' and (big / "models/b.json").read_text() == '"changed"'
    assert (following.root / "data/fills.db").is_symlink(), "as it was"


def test_the_databases_behind_symlinks_are_checked_where_they_lie(following, make):
    following.root.joinpath("data/away.db").symlink_to("/nowhere/away.db")
    outcome = check_databases(following.application, following.ports)
    assert [(item["path"], item["problems"]) for item in outcome.record["databases"]] == [("data/fills.db", [])]
    bench = make(files=[{"pattern": "data/fills.db", "kind": "sqlite", "required": True}])
    (bench.root / "data/fills.db").unlink()
    fills(bench.root / "store/fills.db")
    (bench.root / "data/fills.db").symlink_to("../store/fills.db")
    outcome = check_databases(bench.application, bench.ports)
    assert not any(item["problems"] for item in outcome.record["databases"])
    assert {item["path"] for item in outcome.record["databases"]} >= {"store/fills.db"}


def test_a_restore_is_refused_while_a_program_writes_behind_a_symlink_that_is_followed(following, big):
    backup(following.application, following.ports)
    put(big / "models/b.json", '"changed"')
    program = "import sys; f = open(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(big / "fills.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bot:
        assert bot.stdout.readline() == b"open\n"
        with pytest.raises(StillWrittenError, match="fills"):
            restore(following.application, following.ports, dry_run=True)
        bot.stdin.close()


def test_timers_see_the_places_that_symlinks_are_followed_to(following, big):
    for sight in (to_back_up(following.application), to_drill(following.application)):
        assert f"-{big}" in sight.lines(following.application, ()).replace('"', "")


def test_a_place_to_follow_symlinks_to_is_absolute():
    with pytest.raises(ConfigurationError, match="absolute path"):
        resolve_profile(profile(follow_links=["models"]))


# The law

ENTRIES = st.sampled_from(["a.json", "sub/b.json", "sub/deep/c.json", "other/d.json"])
SHAPES = st.fixed_dictionaries(
    {
        "held": st.dictionaries(ENTRIES, st.sampled_from(["{}", "[1]"]), min_size=1, max_size=4),
        "moved": st.lists(st.sampled_from(["sub", "sub/deep", "other", "a.json"]), max_size=2),
        "links": st.dictionaries(
            st.sampled_from(["l1", "sub/l2"]), st.sampled_from(["/nowhere", "a.json", "../..", "../../big"]), max_size=2
        ),
        "changed": st.booleans(),
        "follows": st.booleans(),
    }
)


@settings(max_examples=25)
@given(shape=SHAPES)
def test_what_was_backed_up_is_restored_and_nothing_behind_a_symlink_is_touched(tmp_path_factory, any_bench, shape):
    base = tmp_path_factory.mktemp("law")
    big = base / "big"
    big.mkdir()
    more = {"follow_links": [str(big)]} if shape["follows"] else {}
    bench = any_bench(base, profile(**more), root=str(base / "app"), owner="bot")
    bench.make_tree()
    data = bench.root / "data"
    for path, text in shape["held"].items():
        put(data / path, text)
    for path, target in shape["links"].items():
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).symlink_to(target)
    backup(bench.application, bench.ports)
    assert verify(bench.application, bench.ports, reference="latest").status == ExitStatus.DONE
    for number, path in enumerate(shape["moved"]):
        if os.path.lexists(data / path) and not any(item.is_symlink() for item in (data / path).parents):
            shutil.move(data / path, big / str(number))
            (data / path).symlink_to(big / str(number))
    if shape["changed"]:
        for path in sorted(big.rglob("*.json")):
            put(path, "changed")
    behind = {path: path.read_bytes() for path in big.rglob("*") if path.is_file()}
    before = bench.snapshot()
    foreseen = restore(bench.application, bench.ports, dry_run=True)
    assert bench.snapshot() == before
    outcome = restore(bench.application, bench.ports)
    assert outcome.record["changes"] == foreseen.record["changes"]
    assert {path: (data / path).read_text() for path in shape["held"]} == shape["held"]
    assert {path: path.read_bytes() for path in big.rglob("*") if path.is_file()} == behind
    assert not restore(bench.application, bench.ports, reference=foreseen.record["backup"]).changed
