# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The laws of a plan, whatever upstream, the last deploy and the checkout hold."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.deploy_settings import CollisionPolicy
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.code import (
    EXECUTABLE,
    SUBMODULE,
    SYMLINK,
    CodeEntry,
    CodeManifest,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.code_plan import (
    Action,
    Upstream,
    plan_code,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.look import Looker
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.preserved import Preserved
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from hypothesis import given, settings
from hypothesis import strategies as st

REGULAR = 0o100644
PRESERVE = ["*.csv", "!tests/**", "secret.env"]


def oid(content: str) -> str:
    data = content.encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entries(files: dict[str, str], mode: int = REGULAR) -> dict[str, CodeEntry]:
    return {path: CodeEntry(path, mode, oid(content)) for path, content in files.items()}


def application(root: Path):
    paths = {name: str(root.parent / name) for name in ("state_dir", "backup_dir", "config_dir", "bin_dir")}
    profile = {
        "name": "bot",
        "components": {"data": {"paths": ["data", "deep/state.json"]}},
        "deploy": {"preserve": PRESERVE},
    }
    return resolve_application(profile, root=str(root), owner="bot", become=False, **paths)


def planned(root: Path, new, old=None, policy=CollisionPolicy.FAIL, ignored=()):
    old = CodeManifest("0" * 40, old) if old is not None else CodeManifest()
    upstream = Upstream("1" * 40, new, frozenset(ignored))
    return plan_code(upstream, old, Looker(root), Preserved(application(root)), policy)


def write(root: Path, files: dict[str, str]) -> None:
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)


def kinds(plan) -> dict[str, str]:
    return {collision.path: collision.kind for collision in plan.refused}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "live"
    made.mkdir()
    return made


def test_hazard_d1_newly_tracked_live_data(root):
    write(root, {"data/x.jsonl": "live", "notes.txt": "live", "run.csv": "live"})
    plan = planned(root, entries({"data/x.jsonl": "up", "notes.txt": "up", "run.csv": "up"}), {})
    assert kinds(plan) == {"data/x.jsonl": "newly_tracked", "notes.txt": "untracked", "run.csv": "newly_tracked"}
    assert not plan.changes


@pytest.mark.parametrize("policy", [CollisionPolicy.KEEP_LIVE, CollisionPolicy.SEED_IF_ABSENT])
def test_hazard_d2_the_way_back_leaves_what_no_deploy_put_there(root, policy):
    write(root, {"data/x.jsonl": "live", "notes.txt": "live"})
    forth = planned(root, entries({"data/x.jsonl": "up", "notes.txt": "up"}), {}, policy)
    assert not forth.refused and not forth.changes
    assert not planned(root, {}, forth.entries).changes


def test_hazard_d3_data_that_upstream_no_longer_tracks_stays(root):
    write(root, {"data/x.jsonl": "old", "trades.db": "written here"})
    plan = planned(root, {}, entries({"data/x.jsonl": "old", "trades.db": "old"}))
    assert not plan.changes and len(plan.notes) == 2


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (REGULAR, "directory_becomes_file"),
        (SYMLINK, "directory_becomes_symlink"),
        (SUBMODULE, "directory_becomes_submodule"),
    ],
)
@pytest.mark.parametrize("path", ["data", "deep"])
def test_hazard_d4_a_data_directory_that_becomes_something_else(root, path, mode, kind):
    write(root, {"data/x.jsonl": "live", "deep/state.json": "{}"})
    assert kinds(planned(root, entries({path: "elsewhere"}, mode), {})) == {path: kind}


def test_hazard_d5_ignored_but_tracked_and_written_here(root):
    write(root, {"cache.bin": "written here"})
    old = entries({"cache.bin": "old"})
    assert not planned(root, entries({"cache.bin": "old"}), old, ignored=["cache.bin"]).changes
    plan = planned(root, entries({"cache.bin": "new"}), old, ignored=["cache.bin"])
    assert kinds(plan) == {"cache.bin": "ignored_but_tracked"}


def test_hazard_d6_nothing_is_written_through_a_symlink(root, tmp_path):
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (root / "data").symlink_to(elsewhere)
    (root / "other").symlink_to(elsewhere)
    plan = planned(root, entries({"data/x.jsonl": "up", "other/y.py": "up"}), {})
    assert kinds(plan) == {"data/x.jsonl": "behind_symlink", "other/y.py": "symlink_in_the_way"}


@pytest.mark.parametrize("policy", list(CollisionPolicy))
def test_hazard_d10_what_is_open_and_has_not_changed_is_not_replaced(root, policy):
    files = {"bot.py": "1", "data/x.jsonl": "1", "run.csv": "1"}
    write(root, files)
    for old in (entries(files), {}):
        plan = planned(root, entries(files), old, policy)
        assert not plan.changes and not plan.collisions


def test_hazard_d12_names_that_differ_in_case_alone(root):
    write(root, {"data/x.jsonl": "live", "notes.txt": "live"})
    plan = planned(root, entries({"Data/y.py": "up", "NOTES.txt": "up"}), {})
    assert kinds(plan) == {"Data/y.py": "case", "NOTES.txt": "case"}


def test_code_may_change_the_case_of_its_names(root):
    write(root, {"readme.md": "1"})
    plan = planned(root, entries({"README.md": "1"}), entries({"readme.md": "1"}))
    assert not plan.refused and {change.action for change in plan.changes} == {Action.CREATE, Action.REMOVE}


def test_a_submodule_is_refused_whatever_the_policy(root):
    plan = planned(root, entries({"vendor": "x"}, SUBMODULE), {}, CollisionPolicy.KEEP_LIVE)
    assert kinds(plan) == {"vendor": "submodule"}


def test_a_directory_with_a_file_of_the_bots_does_not_make_way(root):
    write(root, {"lib/a.py": "a", "lib/notes": "the bot's"})
    plan = planned(root, entries({"lib": "file"}), entries({"lib/a.py": "a"}))
    assert kinds(plan) == {"lib": "directory_becomes_file"}
    (root / "lib/notes").unlink()
    plan = planned(root, entries({"lib": "file"}), entries({"lib/a.py": "a"}))
    assert not plan.refused and plan.emptied == ["lib"]


def test_an_executable_bit_is_a_change(root):
    write(root, {"run.sh": "x"})
    plan = planned(root, entries({"run.sh": "x"}, EXECUTABLE), entries({"run.sh": "x"}))
    assert [change.path for change in plan.changes] == ["run.sh"]


def test_a_preserved_pattern_can_be_taken_back(root):
    write(root, {"tests/sample.csv": "old"})
    plan = planned(root, entries({"tests/sample.csv": "new"}), entries({"tests/sample.csv": "old"}))
    assert [change.path for change in plan.changes] == ["tests/sample.csv"]


NAMES = st.sampled_from(
    ["a.py", "b.txt", "run.csv", "secret.env", "t.db", "data/x", "deep/state.json", "lib/a", "lib/b"]
)
TREES = st.dictionaries(NAMES, st.sampled_from(["1", "2", "3"]), max_size=6)


@settings(max_examples=200, deadline=None)
@given(new=TREES, old=TREES, live=TREES, policy=st.sampled_from(list(CollisionPolicy)))
def test_only_what_a_deploy_put_there_changes_and_nothing_preserved(new, old, live, policy):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "live"
        root.mkdir()
        write(root, live)
        plan = planned(root, entries(new), entries(old), policy)
        preserved = Preserved(application(root))
        for change in plan.changes:
            assert change.path in {*new, *old}
            if change.path in live:
                assert preserved.reason(change.path) is None
                assert change.path in old or change.look.oid == oid(new.get(change.path, ""))
                # What is not known to be a deploy's own is kept aside.
                assert change.edited == (live[change.path] != old[change.path])
        if not plan.refused:
            after = {**live}
            for change in plan.changes:
                if change.action is Action.REMOVE:
                    del after[change.path]
                else:
                    after[change.path] = new[change.path]
            for path, content in new.items():
                entry = plan.entries[path]
                assert after.get(path) == content or not entry.ours
            for path, content in live.items():
                if path not in new and path not in old:
                    assert after[path] == content
