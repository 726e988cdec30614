# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data tree: created, repaired, and never followed out of."""

from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ConfigurationError,
    ExitStatus,
    UnsafePathError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import Credential, tree

KEY = "credentials/kalshi/demo/kalshi.pem"
KEY_ABOVE = "credentials/kalshi/prod/2026"
MODE = "state/account_mode.json"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_created_once(make_bench):
    bench = make_bench()
    old = os.umask(0o077)
    try:
        assert tree(bench.application, bench.ports, fix=True).changed
    finally:
        os.umask(old)
    assert mode(bench.root / "credentials/kalshi/prod") == 0o700
    assert mode(bench.root / "preferences/trading") == 0o755
    assert mode(bench.root / MODE) == 0o644
    assert not tree(bench.application, bench.ports, fix=True).changed


def test_check_writes_nothing_and_says_all(make_bench):
    bench = make_bench()
    outcome = tree(bench.application, bench.ports, fix=False)
    assert outcome.changed
    assert outcome.status == ExitStatus.FINDINGS
    assert list(bench.base.iterdir()) == []
    fixed = tree(bench.application, bench.ports, fix=True)
    assert fixed.after == outcome.after


def test_drift_is_repaired_and_documents_stay(bench):
    (bench.root / KEY).write_text("key")
    (bench.root / KEY).chmod(0o644)
    (bench.root / "databases").chmod(0o777)
    (bench.root / "state/deep/er").mkdir(parents=True)
    (bench.root / "state/deep/er").chmod(0o777)
    (bench.root / MODE).write_text('{"mode": "prod"}')
    outcome = tree(bench.application, bench.ports, fix=True)
    assert mode(bench.root / KEY) == 0o600
    assert mode(bench.root / "databases") == 0o700
    assert mode(bench.root / "state/deep/er") == 0o755
    assert (bench.root / MODE).read_text() == '{"mode": "prod"}'
    assert outcome.before[KEY] == "0644"
    assert outcome.after[KEY] == "0600"


def test_a_planted_symlink_is_not_followed(bench, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o644)
    (bench.root / KEY).symlink_to(outside)
    outcome = tree(bench.application, bench.ports, fix=True)
    assert mode(outside) == 0o644
    assert any("symlink" in note for note in outcome.record["notes"])


def test_a_symlink_in_the_place_of_a_directory_is_refused(bench, tmp_path):
    (tmp_path / "outside").mkdir(mode=0o755)
    (bench.root / "credentials/kalshi/demo").rmdir()
    (bench.root / "credentials/kalshi/demo").symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafePathError, match="symlink"):
        tree(bench.application, bench.ports, fix=True)
    assert mode(tmp_path / "outside") == 0o755


def test_a_hard_link_is_refused(bench, tmp_path):
    (tmp_path / "shadow").write_text("x")
    os.link(tmp_path / "shadow", bench.root / KEY)
    with pytest.raises(UnsafePathError, match="hard link"):
        tree(bench.application, bench.ports, fix=True)


def test_credentials(bench):
    first = Credential(KEY, b"first")
    assert tree(bench.application, bench.ports, fix=True, credentials=[first]).changed
    assert mode(bench.root / KEY) == 0o600
    assert not tree(bench.application, bench.ports, fix=True, credentials=[first]).changed
    left_alone = tree(bench.application, bench.ports, fix=True, credentials=[Credential(KEY, b"second")])
    assert not left_alone.changed
    assert "left alone" in left_alone.record["notes"][0]
    assert (bench.root / KEY).read_bytes() == b"first"
    replaced = tree(bench.application, bench.ports, fix=True, credentials=[Credential(KEY, b"second", replace=True)])
    assert replaced.changed
    assert (bench.root / KEY).read_bytes() == b"second"
    (kept,) = (bench.base / "state/kalshi/replaced").iterdir()
    assert kept.read_bytes() == b"first"
    assert mode(kept) == 0o600
    assert "second" not in str(replaced) and "first" not in str(replaced)


def test_a_credential_brings_the_directories_above_it(bench):
    """Those that the profile does not name get the mode of their component."""
    path = "credentials/kalshi/prod/2026/api.pem"
    key = Credential(path, b"secret")
    planned = tree(bench.application, bench.ports, fix=False, credentials=[key, Credential(f"{path}.pub", b"p")])
    assert [item["path"] for item in planned.record["changes"]] == [os.path.dirname(path), path, f"{path}.pub"]
    assert not (bench.root / path).parent.exists()
    before = os.umask(0)
    try:
        assert tree(bench.application, bench.ports, fix=True, credentials=[key]).changed
    finally:
        os.umask(before)
    assert (bench.root / path).read_bytes() == b"secret"
    assert (mode((bench.root / path).parent), mode(bench.root / path)) == (0o700, 0o600)
    assert not tree(bench.application, bench.ports, fix=True, credentials=[key]).changed
    assert not tree(bench.application, bench.ports, fix=True).changed


# Stated modes, what the bot's umask makes of a file, what it has after each run.
@pytest.mark.parametrize(
    ("stated", "umask", "kept"),
    [
        ({}, 0o022, 0o644),
        ({}, 0o002, 0o664),
        ({"file_mode": "0644"}, 0o027, 0o640),
        ({"file_mode": "0640"}, 0o077, 0o600),
        ({"file_mode": "0640"}, 0o027, 0o640),
    ],
)
def test_a_bot_that_writes_its_documents_anew_causes_no_drift(make_bench, stated, umask, kept):
    bench = make_bench(profile={"name": "mine", "components": {"data": {"paths": ["data"], **stated}}})
    document = bench.root / "data/portfolio.json"
    document.parent.mkdir(parents=True)
    for number in range(3):
        old = os.umask(umask)
        try:
            (bench.root / "data/new").mkdir(exist_ok=True)
            document.with_suffix(".tmp").write_text(str(number))
            document.with_suffix(".tmp").rename(document)
        finally:
            os.umask(old)
        bench.root.chmod(0o750)
        assert not tree(bench.application, bench.ports, fix=True).changed
        assert mode(document) == kept


@pytest.mark.parametrize("profile", ["crypto_bot", "freqtrade", "paper_bot", "trade_agent", "v6"])
def test_no_built_in_quarrels_with_its_bots_umask(make_bench, profile):
    bench = make_bench(profile=profile)
    bench.make_tree()
    place = {"freqtrade": "user_data", "paper_bot": "logs", "v6": "data/lake"}.get(profile, "data")
    for umask in (0o002, 0o022, 0o077):
        old = os.umask(umask)
        try:
            for name in ("portfolio.json", "portfolio.json.bak", "bot.log"):
                (bench.root / place / name).unlink(missing_ok=True)
                (bench.root / place / name).write_text("{}")
        finally:
            os.umask(old)
        outcome = tree(bench.application, bench.ports, fix=True)
        assert not outcome.changed, outcome.lines
        assert outcome.record["notes"] == []


def test_a_stated_mode_is_given_and_who_undoes_it_is_told_what_to_do(make_bench):
    components = {"data": {"paths": ["data"], "file_mode": "0640"}, "more": {"paths": ["x"]}}
    profile = {"name": "mine", "components": components}
    bench = make_bench(profile=profile)
    bench.make_tree()
    (bench.root / "data").mkdir()
    for path, old in (("data/a.json", 0o644), ("data/b.json", 0o4664), ("x", 0o4711)):
        (bench.root / path).write_text("{}")
        (bench.root / path).chmod(old)
    outcome = tree(bench.application, bench.ports, fix=True)
    assert [mode(bench.root / path) for path in ("data/a.json", "data/b.json", "x")] == [0o640, 0o640, 0o711]
    assert any("UMask=0027" in note and "2 files were" in note for note in outcome.record["notes"])
    assert not tree(bench.application, bench.ports, fix=True).changed


def test_what_is_open_to_others_is_named_and_left_alone(make_bench):
    secret = {"paths": ["keys"], "secret": True}
    bench = make_bench(profile={"name": "mine", "components": {"data": {"paths": ["data"]}, "keys": secret}})
    (bench.root / "data/deep").mkdir(parents=True)
    (bench.root / "keys").mkdir()
    for path, open_mode in (("", 0o755), ("data", 0o755), ("data/deep", 0o755), ("keys", 0o755)):
        (bench.root / path).chmod(open_mode)
    for number in range(5):
        (bench.root / f"data/deep/{number}").write_text("")
        (bench.root / f"data/deep/{number}").chmod(0o666)
    (bench.root / "keys/api").write_text("")
    (bench.root / "keys/api").chmod(0o644)
    reachable = all(parent.stat().st_mode & 0o001 for parent in bench.root.parents)
    outcome = tree(bench.application, bench.ports, fix=True)
    assert [item["path"] for item in outcome.record["changes"]] == ["keys", "keys/api"]
    assert (mode(bench.root / "keys"), mode(bench.root / "keys/api")) == (0o750, 0o640)
    assert (mode(bench.root), mode(bench.root / "data/deep/0")) == (0o755, 0o666)
    notes = [note for note in outcome.record["notes"] if "UMask" not in note]
    if reachable:
        assert [note.partition(":")[0] for note in notes[:3]] == [str(bench.root), "data/deep/0", "data/deep/1"]
        assert "root_mode" in notes[0] and "components.data.file_mode" in notes[1]
        assert notes[3] == "and 3 paths more that others can write or read"
    bench.root.chmod(0o750)
    assert not [note for note in tree(bench.application, bench.ports, fix=True).record["notes"] if "0666" in note]


@pytest.mark.parametrize("way", ["link", "file", "directory"])
def test_a_credential_is_not_led_elsewhere(bench, tmp_path, way):
    above = bench.root / "credentials/kalshi/prod/2026"
    (tmp_path / "elsewhere").mkdir()
    if way == "link":
        above.symlink_to(tmp_path / "elsewhere")
    elif way == "file":
        above.write_text("")
        above.chmod(0o600)
    else:
        (above / "api.pem").mkdir(parents=True)
    for fix in (False, True):
        with pytest.raises(UnsafePathError):
            tree(bench.application, bench.ports, fix=fix, credentials=[Credential(f"{KEY_ABOVE}/api.pem", b"s")])
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_refusals(bench, make_bench):
    with pytest.raises(ConfigurationError, match="no component"):
        tree(bench.application, bench.ports, fix=True, credentials=[Credential("elsewhere/key", b"x")])
    with pytest.raises((ConfigurationError, UnsafePathError)):
        tree(bench.application, bench.ports, fix=True, credentials=[Credential("credentials/../../key", b"x")])
    assert not (bench.base / "key").exists()
