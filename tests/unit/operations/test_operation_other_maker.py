# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup of another bot, named by its path: a slip of whoever has several on one host."""

from __future__ import annotations

import dataclasses
import json

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ExitStatus, UsageError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.listing import list_backups
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.prune import prune
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.release import release
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify

BOT = {"components": {"state": {"paths": ["state"], "critical": True}, "notes": {"paths": ["notes"]}}}


@pytest.fixture
def bots(make_bench):
    """A function that sets up one more bot of this host; all have one backup directory and one state directory."""

    def make(name, profile=None):
        made = make_bench(profile or BOT, app=name)
        made.application = dataclasses.replace(made.application, root=type(made.application.root)(made.base / name))
        tree(made.application, made.ports, fix=True)
        (made.root / "state").mkdir(exist_ok=True)
        (made.root / "state/positions.json").write_text(json.dumps({"of": name}))
        done = backup(made.application, made.ports, name="keep")
        made.made = made.backups / done.record["backup"]["name"]
        made.notes.clear()
        return made

    return make


def content(bench):
    return json.loads((bench.root / "state/positions.json").read_text())


def forget_sidecars(path):
    for suffix in (".json", ".sha256"):
        path.with_name(path.name + suffix).unlink()


@pytest.mark.parametrize("sidecars", [True, False], ids=["with sidecars", "the archive alone"])
def test_hazard_c2_the_backup_of_another_profile_is_refused(bots, sidecars, tmp_path):
    alpha, beta = bots("alpha"), bots("beta")
    if not sidecars:
        forget_sidecars(beta.made)
    before = alpha.snapshot()
    for options in ({"dry_run": True}, {}, {"components": ("state",)}):
        with pytest.raises(UsageError, match="is of the profile beta, made by the application beta") as caught:
            restore(alpha.application, alpha.ports, reference=str(beta.made), **options)
        assert "--any-profile" in caught.value.hint
    assert alpha.snapshot() == before
    done = restore(alpha.application, alpha.ports, reference=str(beta.made), to=str(tmp_path / "look"))
    assert done.record["state"] == "restored"
    assert json.loads((tmp_path / "look/state/positions.json").read_text()) == {"of": "beta"}
    assert any("is of the profile beta" in note for note in alpha.notes)
    restore(alpha.application, alpha.ports, reference=str(beta.made), any_profile=True)
    assert content(alpha) == {"of": "beta"}


def test_the_backup_of_another_application_of_the_profile_is_said(bots, tmp_path):
    profile = {**BOT, "name": "bot"}
    alpha, beta = bots("alpha", profile), bots("beta", profile)
    restore(alpha.application, alpha.ports, reference=str(beta.made))
    assert content(alpha) == {"of": "beta"}
    said = f"{beta.made.name} was made by the application beta, not by alpha, which has the same profile"
    assert said in alpha.notes
    alpha.notes.clear()
    restore(alpha.application, alpha.ports, reference=str(alpha.made))
    assert alpha.notes == []
    migrate(alpha.application, alpha.ports, source=str(beta.made), dry_run=True, force=True)
    assert said in alpha.notes


def test_neither_sees_drills_prunes_nor_releases_what_is_the_others(bots):
    alpha, beta = bots("alpha"), bots("beta")
    for one, other in ((alpha, beta), (beta, alpha)):
        assert [item["name"] for item in list_backups(one.application, one.ports).record["backups"]] == [one.made.name]
        assert [item["name"] for item in verify(one.application, one.ports, reference="all").record["backups"]] == [
            one.made.name
        ]
        assert [item["name"] for item in prune(one.application, one.ports, dry_run=True).record["decisions"]] == [
            one.made.name
        ]
        assert drill(one.application, one.ports).record["backup"]["name"] == one.made.name
        with pytest.raises(UsageError, match="is of the profile"):
            drill(one.application, one.ports, reference=str(other.made))
        with pytest.raises(UsageError, match="another application") as caught:
            release(one.application, one.ports, reference=str(other.made))
        assert caught.value.hint == f"choose --app {other.application.name}"
        seen = verify(one.application, one.ports, reference=str(other.made))
        assert seen.status is ExitStatus.DONE
        assert "the result is not kept" in seen.record["backups"][0]["notes"][0]


def test_a_backup_of_the_old_default_prefix_is_restored_and_drilled(make_bench):
    """A profile of one's own had the prefix ``backup``; its application's name is the new one."""
    before = make_bench({**BOT, "archive_prefix": "backup"}, app="alpha")
    before.make_tree()
    (before.root / "state").mkdir()
    (before.root / "state/positions.json").write_text('{"of": "before"}')
    made = backup(before.application, before.ports, tier="daily").record["backup"]["name"]
    after = make_bench(BOT, app="alpha")
    assert made.startswith("backup_")
    assert after.application.profile.archive_prefix == "alpha"
    (after.root / "state/positions.json").write_text('{"of": "after"}')
    assert drill(after.application, after.ports).record["backup"]["name"] == made
    assert restore(after.application, after.ports).record["backup"] == made
    assert content(after) == {"of": "before"}
    new = backup(after.application, after.ports, tier="daily").record["backup"]["name"]
    assert new.startswith("alpha_")
    decided = prune(after.application, after.ports, dry_run=True).record["decisions"]
    assert {item["name"] for item in decided} >= {made, new}
