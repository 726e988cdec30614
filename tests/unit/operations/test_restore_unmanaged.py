# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What no component has is left alone by a restore; what a restore replaces or removes is in the safety backup."""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from hypothesis import given, settings
from hypothesis import strategies as st

DATA = {"paths": ["data"], "directories": ["data"]}
MORE = {"paths": ["more"], "directories": ["more"]}


def profile(**components):
    return {"name": "bot", "components": components}


@pytest.fixture
def bot(tmp_path, any_bench):
    """Makes the application anew with other components, on the same directories."""

    def made(**components):
        bench = any_bench(tmp_path, profile(**components), root=str(tmp_path / "data"))
        bench.make_tree()
        return bench

    return made


def put(bench, path: str, text: str) -> Path:
    place = bench.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def state_before(bench) -> dict[str, bytes]:
    return {str(p.relative_to(bench.root)): p.read_bytes() for p in bench.root.rglob("*") if p.is_file()}


def kept(outcome) -> dict[str, bytes]:
    """What the safety backup holds."""
    path = outcome.record["safety_backup"]
    if path is None:
        return {}
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


def lost(bench, before: dict[str, bytes], outcome) -> list[str]:
    """The law: every byte from before lies in the live tree or in the safety backup."""
    now, aside = state_before(bench), kept(outcome)
    return [path for path, content in before.items() if content not in (now.get(path), aside.get(path))]


def test_what_was_excluded_since_is_left_alone_and_named(bot):
    old = bot(data=DATA)
    put(old, "data/models/m.bin", "old model")
    put(old, "data/keys.json", "{}")
    backup(old.application, old.ports)
    bench = bot(data={**DATA, "exclude": ["models"]})
    put(bench, "data/models/m.bin", "a week of training")
    put(bench, "data/keys.json", '{"a": 1}')
    outcome = restore(bench.application, bench.ports)
    assert (bench.root / "data/models/m.bin").read_text() == "a week of training"
    assert (bench.root / "data/keys.json").read_text() == "{}"
    assert outcome.record["unmanaged"] == ["data/models/m.bin"]
    assert any("no component of the profile has it: data/models/m.bin" in note for note in bench.notes)


def test_it_is_restored_when_asked_for_and_what_it_replaces_is_kept(bot):
    old = bot(data=DATA, more=MORE)
    put(old, "more/.env", "OLD=1\n")
    put(old, "data/x.json", "{}")
    backup(old.application, old.ports)
    bench = bot(data=DATA)
    put(bench, "more/.env", "NEW=2\n")
    before = state_before(bench)
    dry = restore(bench.application, bench.ports, include_unmanaged=True, dry_run=True)
    assert [item["path"] for item in dry.record["changes"]] == ["more/.env"]
    outcome = restore(bench.application, bench.ports, include_unmanaged=True)
    assert (bench.root / "more/.env").read_text() == "OLD=1\n"
    assert kept(outcome)["more/.env"] == b"NEW=2\n" and lost(bench, before, outcome) == []
    again = restore(bench.application, bench.ports, reference=outcome.record["safety_backup"], include_unmanaged=True)
    assert again.status == ExitStatus.DONE and (bench.root / "more/.env").read_text() == "NEW=2\n"


def test_another_directory_gets_all_of_it(bot, tmp_path):
    old = bot(data=DATA, more=MORE)
    put(old, "more/x", "1")
    backup(old.application, old.ports)
    bench = bot(data=DATA)
    restore(bench.application, bench.ports, to=str(tmp_path / "out"))
    assert (tmp_path / "out/more/x").read_text() == "1"


def test_code_in_an_archive_of_another_program_is_left_alone(bot, tmp_path):
    bench = bot(data=DATA)
    put(bench, "bot.py", "new code")
    put(bench, ".env", "KEY=new")
    source = tmp_path / "source"
    for path, text in (("bot.py", "old code"), (".env", "KEY=old"), (".git/config", "x"), ("data/x.json", "{}")):
        place = source / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    archive = tmp_path / "old.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("bot.py", ".env", ".git", "data"):
            tar.add(source / name, name)
    outcome = restore(bench.application, bench.ports, reference=str(archive))
    assert (bench.root / "data/x.json").read_text() == "{}"
    assert ((bench.root / "bot.py").read_text(), (bench.root / ".env").read_text()) == ("new code", "KEY=new")
    assert not (bench.root / ".git").exists()
    assert set(outcome.record["unmanaged"]) == {".env", ".git/config", "bot.py"}


def test_files_that_became_directories_come_back_and_the_other_way_round(bot):
    bench = bot(data={**DATA, "exclude": ["*.scratch"]})
    put(bench, "data/cache", "file")
    put(bench, "data/models/m.bin", "m")
    put(bench, "data/db.db/x.txt", "1")
    backup(bench.application, bench.ports)
    before = state_before(bench)
    (bench.root / "data/cache").unlink()
    put(bench, "data/cache/deep/x", "1")
    put(bench, "data/cache/y.scratch", "no component has it")
    for name in ("models", "db.db"):
        shutil.rmtree(bench.root / "data" / name)
    put(bench, "data/models", "file now")
    connection = sqlite3.connect(bench.root / "data/db.db")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE fills(id)")
    connection.commit()
    changed = state_before(bench)
    assert restore(bench.application, bench.ports, dry_run=True).status == ExitStatus.DONE
    outcome = restore(bench.application, bench.ports, force=True)
    connection.close()
    assert state_before(bench) == before
    ours = {path for path in changed if not path.startswith("data/db.db")}
    assert set(lost(bench, changed, outcome)) & ours == set()
    assert kept(outcome)["data/cache/y.scratch"] == b"no component has it"


NAMES = st.sampled_from(
    ["data/a", "data/b.json", "data/sub/c", "data/sub/d.log", "more/e", "more/sub/f", ".env", "bot.py"]
)
TREES = st.dictionaries(NAMES, st.sampled_from(["{}", '{"x": 1}', "[1]\n", "[2]\n"]), max_size=6)
COMPONENTS = st.fixed_dictionaries(
    {"data": st.sampled_from([DATA, {**DATA, "exclude": ["sub"]}, {**DATA, "exclude": ["*.json"]}])},
    optional={"more": st.just(MORE)},
)


@settings(max_examples=25)
@given(
    first=COMPONENTS,
    then=COMPONENTS,
    held=TREES,
    live=TREES,
    everything=st.booleans(),
)
def test_no_byte_that_a_restore_replaces_is_lost(tmp_path_factory, any_bench, first, then, held, live, everything):
    base = tmp_path_factory.mktemp("law")
    old = any_bench(base, profile(**first), root=str(base / "root"))
    old.make_tree()
    for path, text in held.items():
        put(old, path, text)
    made = backup(old.application, old.ports)
    shutil.rmtree(old.root)
    bench = any_bench(base, profile(**then), root=str(base / "root"))
    bench.make_tree()
    for path, text in live.items():
        put(bench, path, text)
    before = state_before(bench)
    outcome = restore(
        bench.application, bench.ports, reference=made.record["backup"]["name"], include_unmanaged=everything
    )
    assert lost(bench, before, outcome) == []
    unmanaged = set(outcome.record["unmanaged"])
    assert all(state_before(bench).get(path) == before.get(path) for path in unmanaged)
