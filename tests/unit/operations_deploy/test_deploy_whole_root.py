# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``paths: ["."]``: all that lies below the root is data, but for code, caches and what is ours or another's."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
from functools import partial
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import (
    parse_configuration,
    render_configuration,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CaptureError,
    ConfigurationError,
    ExitStatus,
    TradekeepError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.claims import holds_data
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.configured import check_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.databases import check_databases
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.working_copy import (
    gitignore,
    tracked_data,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.channel import Channel
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.shipping import Shipping, Stand
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.safety import state_before
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.scan import scan
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.uncovered import find_uncovered
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import (
    profile_as_mapping,
    resolve_application,
    resolve_profile,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.plan import Replacement
from operations_handover.test_hostile_source import DONE, Source, entry

from .conftest import FIRST, World

DATA = {
    "keys.json": '{"key": 1}\n',
    "state/deep/s.json": "{}\n",
    "lib/model.bin": "beside code\n",
    "notes.txt": "by hand\n",
}
NO_DATA = {
    "lib/__pycache__/a.pyc": "compiled\n",
    "env/pyvenv.cfg": "home = /usr\n",
    "env/lib/x.py": "installed\n",
    "node_modules/x/y.js": "cache\n",
    ".pytest_cache/z": "cache\n",
    "backups/old.tar.gz": "ours\n",
    "downloads/candles.json": "excluded\n",
}
COMPONENTS = {
    "all": {"paths": ["."], "exclude": ["downloads"], "critical": True, "file_mode": "0640"},
    "secrets": {"paths": ["secrets"], "secret": True, "file_mode": "0600"},
}


class Whole(World):
    """The root of the data is the checkout, and one component has all of it."""

    components = COMPONENTS

    @property
    def application(self):
        paths = {name: str(self.base / name) for name in ("state_dir", "config_dir", "bin_dir")}
        profile = {"name": "whole", "components": self.components, "deploy": self.settings}
        return resolve_application(
            profile, root=str(self.live), become=False, backup_dir=str(self.live / "backups"), **paths
        )

    def back_up(self, **options):
        return backup(self.application, self.ports, **options)

    def restore(self, reference: str = "latest", **options):
        return restore(self.application, self.ports, reference=reference, **options)

    def archived(self, outcome) -> set[str]:
        with tarfile.open(outcome.record["backup"]["path"]) as archive:
            return {item.name for item in archive if item.isfile()} - {"MANIFEST.json"}

    def track(self, *paths: str) -> None:
        self.git("add", "--force", *paths, at=self.live)


def fill(top: Path, rows: int = 50) -> None:
    with sqlite3.connect(top / "fills.db") as database:
        database.execute("CREATE TABLE fills (n)")
        database.executemany("INSERT INTO fills VALUES (?)", [(n,) for n in range(rows)])
    database.close()


@pytest.fixture
def whole(tmp_path: Path) -> Whole:
    made = Whole(tmp_path)
    made.git("clone", "--quiet", str(made.upstream), str(made.live), at=made.base)
    made.write({**DATA, **NO_DATA, "secrets/api": "secret\n"})
    fill(made.live)
    return made


HELD = {*DATA, "fills.db", "secrets/api"}


def test_what_is_scanned_is_neither_code_nor_a_cache_nor_ours(whole: Whole) -> None:
    found = {item.path: item.component for item in scan(whole.application) if item.type == "file"}
    assert found == {**dict.fromkeys((*DATA, "fills.db"), "all"), "secrets/api": "secrets"}
    directories = {item.path for item in scan(whole.application) if item.type == "directory"}
    assert directories == {"state", "state/deep", "secrets"}


def test_the_profile_survives_its_configuration(whole: Whole) -> None:
    application = whole.application
    again = parse_configuration(render_configuration(application), path="x")
    assert again.profile == application.profile
    assert resolve_profile(profile_as_mapping(application.profile)) == application.profile
    assert [item.path for item in scan(again)] == [item.path for item in scan(application)]


def test_backup_and_restore_leave_the_code_alone(whole: Whole) -> None:
    made = whole.back_up()
    assert whole.archived(made) == HELD
    shutil.rmtree(whole.live / "state")
    (whole.live / "fills.db").unlink()
    whole.write({"new.json": "{}\n", "bot.py": "print('edited')\n", "keys.json": "other\n", "lib/new.bin": "1\n"})
    code = {path: whole.read(path) for path in (*FIRST, *NO_DATA)}
    restored = whole.restore(made.record["backup"]["path"])
    assert restored.status is ExitStatus.DONE
    assert {path: whole.read(path) for path in DATA} == DATA
    assert not (whole.live / "new.json").exists() and not (whole.live / "lib/new.bin").exists()
    assert {path: whole.read(path) for path in code} == code
    with tarfile.open(restored.record["safety_backup"]) as archive:
        assert {"new.json", "lib/new.bin", "keys.json"} <= {item.name for item in archive}
    assert not whole.restore(made.record["backup"]["path"]).changed


def test_what_git_has_come_to_track_is_left_alone_by_a_restore_and_named(whole: Whole) -> None:
    made = whole.back_up().record["backup"]["path"]
    whole.track("notes.txt")
    whole.write({"notes.txt": "code now\n", "keys.json": "other\n"})
    notes: list[str] = []
    whole.ports.progress.note = notes.append
    outcome = whole.restore(made)
    assert (whole.read("notes.txt"), whole.read("keys.json")) == ("code now\n", DATA["keys.json"])
    assert outcome.record["not_data"] == ["notes.txt"]
    assert any("left alone, as it is code or a cache here and no data: notes.txt" in note for note in notes)
    # Nor does it come back by the word for what no component has.
    assert not whole.restore(made, include_unmanaged=True).changed
    assert whole.read("notes.txt") == "code now\n"
    elsewhere = whole.base / "elsewhere"
    whole.restore(made, to=str(elsewhere))
    assert (elsewhere / "notes.txt").read_text() == DATA["notes.txt"]
    assert verify(whole.application, whole.ports, reference=made).status is ExitStatus.DONE
    assert drill(whole.application, whole.ports, reference=made).status is ExitStatus.DONE
    assert check_databases(whole.application, whole.ports).status is ExitStatus.DONE


def test_the_tree_mends_the_data_and_not_the_code(whole: Whole) -> None:
    changed = ("keys.json", "lib/model.bin", "secrets/api", "bot.py", "env/lib/x.py", "lib")
    for path in changed:
        (whole.live / path).chmod(0o777)
    os.link(whole.live / "bot.py", whole.live / "lib/b2.py")
    whole.track("lib/b2.py")
    tree(whole.application, whole.ports, fix=True)
    modes = {path: stat.S_IMODE((whole.live / path).stat().st_mode) for path in changed}
    assert modes == {
        **dict.fromkeys(("bot.py", "env/lib/x.py", "lib"), 0o777),
        # Without what the profile does not allow; who may read a file may go on executing it.
        **dict.fromkeys(("keys.json", "lib/model.bin"), 0o750),
        "secrets/api": 0o700,
    }
    assert not tree(whole.application, whole.ports, fix=True).changed


def test_a_deploy_changes_code_alone(whole: Whole) -> None:
    whole.push({"bot.py": "print(2)\n", "lib/new.py": "new = 1\n", "lib/b.py": None})
    outcome = whole.deploy()
    assert outcome.record["state"] == "deployed"
    assert (whole.read("bot.py"), whole.read("lib/new.py")) == ("print(2)\n", "new = 1\n")
    assert not (whole.live / "lib/b.py").exists()
    assert {path: whole.read(path) for path in DATA} == DATA
    counts = outcome.record["proof"]["components"]
    assert (counts["all"]["files"], counts["secrets"]["files"]) == (len(DATA) + 1, 1)
    assert whole.archived(whole.back_up()) == HELD


def test_a_deploy_does_not_take_the_place_of_data(whole: Whole) -> None:
    wanted = {"keys.json": "upstream's\n", "secrets/api": "upstream's\n", "state": "a file\n"}
    whole.push(wanted)
    assert [item["path"] for item in whole.deploy().record["collisions"]] == list(wanted)
    assert whole.deploy(on_collision="keep_live").record["state"] == "deployed"
    assert {path: whole.read(path) for path in DATA} == DATA
    # git tracks it from now on, and it is data all the same: the deploy knows that it found it there.
    assert whole.archived(whole.back_up()) == HELD


def test_on_a_new_server_what_a_deploy_put_there_is_code_without_git(tmp_path: Path) -> None:
    """Data first, then code, or the other way round: no checkout is there in either case."""
    server = Whole(tmp_path)
    server.live.mkdir()
    server.write(DATA)
    assert server.deploy().record["state"] == "deployed"
    assert not (server.live / ".git").exists()
    made = server.back_up()
    assert server.archived(made) == set(DATA)
    server.write({"keys.json": "other\n", "bot.py": "edited\n"})
    server.restore(made.record["backup"]["path"])
    assert (server.read("keys.json"), server.read("bot.py")) == (DATA["keys.json"], "edited\n")


def test_without_a_checkout_all_is_data_but_caches_and_what_is_ours(tmp_path: Path) -> None:
    bare = Whole(tmp_path)
    bare.live.mkdir()
    bare.write({**FIRST, **DATA, **NO_DATA, "bot.py": "copied by hand\n"})
    assert bare.archived(bare.back_up()) == {*FIRST, *DATA}
    assert [item["path"] for item in bare.deploy().record["collisions"]] == ["bot.py"]
    assert bare.deploy(adopt=True).record["state"] == "deployed"
    assert (bare.read("bot.py"), bare.read("keys.json")) == (FIRST["bot.py"], DATA["keys.json"])
    # Code from now on, in fact: the component is critical, and has far fewer files.
    assert bare.archived(bare.back_up(allow_loss=["all"])) == set(DATA)


def test_git_is_told_nothing_of_what_has_no_name(whole: Whole) -> None:
    copy = whole.base / "copy"
    whole.push({"keys.json": "a sample\n"})
    whole.git("clone", "--quiet", str(whole.upstream), str(copy), at=whole.base)
    gitignore(whole.application, whole.ports, path=str(copy))
    lines = (copy / ".gitignore").read_text().splitlines()
    assert "/secrets" in lines and not {"/.", ".", "/*"} & set(lines)
    assert tracked_data(whole.application, whole.ports, path=str(copy)).record["tracked"] == []


def test_nothing_is_uncovered_but_what_git_tracks(whole: Whole) -> None:
    whole.write({"new/orders.sqlite": "a database\n", "lib/sample.db": "code\n", "id_rsa": "key\n"})
    whole.track("lib/sample.db", "bot.py")
    found = find_uncovered(whole.application, whole.ports.clock)
    assert (found.databases, found.keys, found.recent, found.tracked) == ([], [], [], ["lib/sample.db"])
    assert "not backed up, as git tracks it: 1 database or key: lib/sample.db" in found.warnings[0]
    assert holds_data(whole.application)


def test_a_rule_that_asks_for_a_file_by_name_makes_it_data(whole: Whole) -> None:
    whole.track("keys.json", "fills.db")
    rules = [{"pattern": "keys.json", "required": True}, {"pattern": "fills.db", "kind": "sqlite"}]
    whole.components = {**COMPONENTS, "all": {"paths": [".", "fills.*"], "files": rules}}
    assert {"keys.json", "fills.db"} <= {item.path for item in scan(whole.application)}


@pytest.mark.parametrize("with_git", [True, False])
def test_data_of_another_server_comes_without_its_code(whole: Whole, with_git: bool) -> None:
    """With its own git the source says what is code there; without, what is code here does not arrive."""
    source = whole.base / "source"
    shutil.copytree(whole.live, source, symlinks=True)
    (source / "tool.py").write_text("of the source\n")
    whole.git("add", "tool.py", at=source)
    if not with_git:
        shutil.rmtree(source / ".git")
    for path in (*DATA, "fills.db"):
        (whole.live / path).unlink()
    (whole.live / "bot.py").write_text("print('edited')\n")
    application = whole.application
    Path(application.config_dir).mkdir()
    Path(application.config_file).write_text(render_configuration(application), encoding="utf-8")
    outcome = migrate(application, whole.ports, source=str(source))
    assert outcome.status is ExitStatus.DONE, outcome.lines
    assert {path: whole.read(path) for path in DATA} == DATA and (whole.live / "fills.db").exists()
    assert whole.read("bot.py") == "print('edited')\n"
    assert (whole.live / "tool.py").exists() is not with_git


def test_an_archive_that_holds_what_is_code_here_arrives_without_it(whole: Whole) -> None:
    made = whole.back_up().record["backup"]["path"]
    whole.track("notes.txt")
    whole.write({"notes.txt": "code now\n"})
    (whole.live / "keys.json").unlink()
    application = whole.application
    Path(application.config_dir).mkdir()
    Path(application.config_file).write_text(render_configuration(application), encoding="utf-8")
    outcome = migrate(application, whole.ports, source=made)
    assert outcome.status is ExitStatus.DONE, outcome.lines
    assert (whole.read("notes.txt"), whole.read("keys.json")) == ("code now\n", DATA["keys.json"])


# What the bot does to git's index is no way to have data left out in silence.


def test_an_index_that_claims_data_for_code_is_told(whole: Whole) -> None:
    assert not whole.back_up().record["warnings"]
    whole.track("keys.json")
    made = whole.back_up()
    assert "keys.json" not in whole.archived(made)
    (warning,) = made.record["warnings"]
    assert "left out since the last backup held it, as git tracks it now" in warning and "keys.json" in warning
    assert whole.back_up(dry_run=True).record["warnings"] == []


def test_an_index_that_claims_a_database_or_much_of_the_data_fails_the_backup(whole: Whole) -> None:
    whole.back_up()
    whole.track("fills.db")
    with pytest.raises(CaptureError, match="held it, and it is code now, as git tracks it"):
        whole.back_up()
    assert whole.back_up(allow_loss=["fills.db"]).status is ExitStatus.DONE
    whole.git("rm", "--quiet", "--cached", "fills.db", at=whole.live)
    whole.back_up()
    whole.track(*DATA)
    with pytest.raises(CaptureError, match=r"component all held 5 files in .* and holds 1 now"):
        whole.back_up()


def test_a_virtual_environment_that_was_data_is_told(whole: Whole) -> None:
    whole.back_up()
    whole.write({"state/pyvenv.cfg": "\n"})
    assert any("state/deep/s.json" in text for text in whole.back_up().record["warnings"])


def damage(whole: Whole, how: str) -> None:
    index = whole.live / ".git/index"
    if how == "split":
        for path in FIRST:
            os.utime(whole.live / path, (1, 1))  # git writes an entry of what is new twice
        whole.git("update-index", "--refresh", at=whole.live)
        whole.git("update-index", "--split-index", at=whole.live)
    elif how == "sparse":
        whole.git("sparse-checkout", "set", "--cone", "--sparse-index", "none", at=whole.live)
    elif how == "missing":
        index.unlink()
    elif how == "torn":
        index.write_bytes(index.read_bytes()[:-30])
    elif how == "link":
        index.rename(index.with_name("other"))
        index.symlink_to("other")
    else:
        index.write_bytes(b"DIRC\0\0\0\x09" + index.read_bytes()[8:])


def test_an_index_that_does_not_say_all_is_refused_with_a_way_out(whole: Whole) -> None:
    made = whole.back_up().record["backup"]["path"]
    for how in ("split", "sparse", "missing", "torn", "link", "newer"):
        damage(whole, how)
        before = {path: path.stat().st_ino for path in whole.live.rglob("*") if path.is_file()}
        fixed = partial(tree, whole.application, whole.ports, fix=True)
        for work in (whole.back_up, lambda: whole.restore(made), fixed):
            with pytest.raises(TradekeepError, match="git's index cannot tell code from data") as caught:
                work()
            way_out = str(caught.value.hint).partition("run: ")[2].partition(" ;")[0]
        assert {path: path.stat().st_ino for path in whole.live.rglob("*") if path.is_file()} == before, how
        if how == "torn":
            assert verify(whole.application, whole.ports, reference=made).status is ExitStatus.DONE
        subprocess.run(way_out, shell=True, check=True)
        assert {item.path for item in scan(whole.application) if item.type == "file"} == HELD, how


def test_other_forms_of_a_checkout_say_the_same(whole: Whole) -> None:
    def held() -> set[str]:
        return {item.path for item in scan(whole.application) if item.type == "file"}

    whole.git("update-index", "--index-version", "4", at=whole.live)
    assert held() == HELD
    first, kept = whole.base / "first", whole.base / "kept"
    whole.git("clone", "--quiet", "--no-checkout", str(whole.upstream), str(first), at=whole.base)
    shutil.rmtree(whole.live / ".git")
    whole.live.rename(kept)
    whole.git("worktree", "add", "--quiet", "--detach", str(whole.live), at=first)
    shutil.copytree(kept, whole.live, dirs_exist_ok=True)
    assert (whole.live / ".git").is_file() and held() == HELD


def test_a_link_to_elsewhere_is_refused_and_one_inside_is_kept(whole: Whole) -> None:
    (whole.live / "latest.txt").symlink_to("notes.txt")
    (whole.live / "gone").symlink_to("/nowhere/at/all")
    whole.back_up()
    os.rename(whole.live / "state", whole.base / "elsewhere")
    (whole.live / "state").symlink_to(whole.base / "elsewhere")
    with pytest.raises(TradekeepError, match="is a symlink, what it leads to would not be captured"):
        whole.back_up()


def test_a_checkout_below_the_root_is_code_by_its_own_index(tmp_path: Path) -> None:
    made = Whole(tmp_path, directory=str(tmp_path / "live/app"))
    made.git("clone", "--quiet", str(made.upstream), str(made.live / "app"), at=made.base)
    made.write({**DATA, "app/state.json": "{}\n"})
    assert made.archived(made.back_up()) == {*DATA, "app/state.json"}
    made.push({"bot.py": "print(2)\n"})
    assert made.deploy().record["state"] == "deployed"
    assert made.read("app/bot.py") == "print(2)\n"
    assert made.archived(made.back_up()) == {*DATA, "app/state.json"}


def test_a_root_below_the_checkout_is_data_as_a_whole(tmp_path: Path) -> None:
    made = Whole(tmp_path, directory=str(tmp_path / "live"))
    made.live = made.base / "live/data"
    made.git("clone", "--quiet", str(made.upstream), str(made.base / "live"), at=made.base)
    made.write(DATA)
    made.push({"data/keys.json": "upstream's\n", "bot.py": "print(2)\n"})
    assert [item["path"] for item in made.deploy().record["collisions"]] == ["data/keys.json"]
    assert made.deploy(on_collision="keep_live").record["state"] == "deployed"
    assert made.archived(made.back_up()) == set(DATA)
    gitignore(made.application, made.ports, path=str(made.base / "live"))
    assert "/data" in (made.base / "live/.gitignore").read_text().splitlines()


def test_only_one_component_has_the_rest(whole: Whole) -> None:
    whole.components = {**COMPONENTS, "other": {"paths": ["."]}}
    with pytest.raises(ConfigurationError, match=r"expected a pattern of one component, found '\.' in all too"):
        _ = whole.application


def test_releases_need_paths_that_they_can_link_to(whole: Whole) -> None:
    whole.settings.update(layout="releases", directory=str(whole.base / "releases"))
    with pytest.raises(ConfigurationError, match=r"links to, found '\.'"):
        whole.deploy()
    assert whole.archived(whole.back_up()) == HELD


def test_what_was_replaced_is_in_the_safety_backup_although_git_tracks_it_meanwhile(whole: Whole) -> None:
    kept = whole.base / "kept.json"
    kept.write_text(DATA["keys.json"])
    whole.track("keys.json")
    replaced = Replacement(str(whole.live / "keys.json"), str(whole.base / "staged"), str(kept))
    assert "keys.json" in {item.path for item in state_before(whole.application, (replaced,))}


def test_the_check_of_the_configuration_says_what_a_backup_will(whole: Whole) -> None:
    application = whole.application
    Path(application.config_dir).mkdir()
    Path(application.config_file).write_text(render_configuration(application), encoding="utf-8")
    whole.write({"lib/sample.db": "code\n"})
    whole.track("lib/sample.db")
    assert any("as git tracks it: 1 database" in line for line in check_configuration(application, whole.ports).lines)
    damage(whole, "torn")
    outcome = check_configuration(whole.application, whole.ports)
    assert outcome.status is ExitStatus.FINDINGS
    assert any("git's index cannot tell code from data: it is damaged" in line for line in outcome.lines)


def test_a_running_server_hands_over_its_data_and_no_code(whole: Whole) -> None:
    nothing, nowhere = os.pipe()[0], os.open(os.devnull, os.O_WRONLY)
    (whole.base / "scratch").mkdir()
    channel = Channel(nothing, nowhere)
    shipping = Shipping(whole.application, whole.ports, channel, whole.base / "scratch")
    shipping.round(Stand.AT_REST)
    held = shipping.holds()
    shipping.close()
    channel.close()
    assert (held["files"], held["databases"]) == (len(HELD), {"fills.db": {"fills": 50}})


@pytest.mark.parametrize(("path", "kind", "refused"), [("bot.py", "file", True), ("lib", "directory", False)])
def test_what_is_code_here_does_not_arrive_from_another_server(
    whole: Whole, path: str, kind: str, refused: bool
) -> None:
    source = Source(whole)
    source.says(entry(path, kind), DONE)
    if refused:
        with pytest.raises(TradekeepError, match="is data on the other server, and code or a cache on this one"):
            source.received()
    else:
        source.received()
    source.channel.close()


def test_the_backup_before_a_deploy_has_nothing_of_other_components(whole: Whole) -> None:
    """They may be secret, and a critical component has what nobody else does."""
    whole.settings["backup_first"] = "critical"
    whole.push({"bot.py": "print(2)\n"})
    whole.deploy()
    (made,) = (whole.live / "backups").glob("*before_deploy.tar.gz")
    with tarfile.open(made) as archive:
        assert {item.name for item in archive if item.isfile()} - {"MANIFEST.json"} == HELD - {"secrets/api"}
