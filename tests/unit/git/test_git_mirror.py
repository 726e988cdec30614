# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The mirror: addresses, names, peeking, exporting."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CommandError,
    ConfigurationError,
    TradekeepError,
    UnsafePathError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git import failures, refs, urls
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git.mirror import Mirror
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git.process import Git, Transport, private_directory
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import Account, command_as
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner

ODD = "new\nline \udcff\t*.x"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"


@pytest.mark.parametrize(
    "url",
    ["ext::sh -c id", "fd::17", "--upload-pack=id", "-oProxyCommand=id:x", "git://h/x", "http://h/x", "relative/path",
     "ssh://-oProxyCommand=id/x", "", "https://h/x\nfetch", "ssh://u:secret@h/x", "ftp://h/x", "file://host/x"],
)  # fmt: skip
def test_addresses_that_run_programs_or_cannot_be_trusted_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        urls.source_of(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["https://h/x.git", "ssh://git@h:2222/x", "git@h:x/y.git", "host:x", "file:///srv/x", "/srv/x", "http://localhost:1/x",
     "ssh://[::1]/x"],
)  # fmt: skip
def test_other_addresses_are_taken_as_they_are(url: str) -> None:
    assert urls.source_of(url) == urls.Source(url)


def test_credentials_in_addresses_are_never_shown() -> None:
    source = urls.source_of("https://me:s%40cret@h/x")
    assert (source.url, source.user, source.password) == ("https://h/x", "me", "s@cret")
    assert urls.source_of("https://tok123@h/x").user == "tok123"
    said = "fatal: unable to access 'https://me:secret@h/x/': Could not resolve host: h"
    shown = str(failures.failure_of(said, path="https://me:secret@h/x"))
    assert "secret" not in shown
    assert "name cannot be resolved" in shown
    assert urls.mask_url("ssh://git@h/x and ssh://git:pw@h/x") == "ssh://git@h/x and ssh://git:***@h/x"


def test_a_server_that_cannot_be_reached_is_named_without_the_password(world) -> None:
    world.mirror.ensure()
    with pytest.raises(CommandError, match="server cannot be reached") as caught:
        world.mirror.fetch("http://me:hidden@127.0.0.1:9/x.git")
    assert "hidden" not in str(caught.value)
    kept = [path.read_bytes() for path in world.mirror.directory.rglob("*") if path.is_file()]
    assert not any(b"hidden" in content for content in kept)


def test_credentials_are_answered_from_the_environment_and_are_no_argument(world) -> None:
    world.mirror.ensure()
    git = world.mirror.git.with_credentials("me", "p w'$x")
    answer = git.run("credential", "fill", text="protocol=https\nhost=h\n\n")
    assert "username=me\npassword=p w'$x\n" in answer.stdout
    assert not any("p w" in argument for argument in answer.argv)


def test_missing_programs_and_lost_time_are_named(world) -> None:
    world.mirror.ensure()
    with pytest.raises(CommandError, match="git did not end within"):
        world.mirror.git.run("-c", "alias.wait=!sleep 60", "wait", timeout_seconds=0.2)
    world.mirror.git.runner = SubprocessRunner(search_path="/nonexistent")
    with pytest.raises(CommandError, match="git: is not installed"):
        world.mirror.resolve("main")


def test_ssh_never_asks_and_never_trusts() -> None:
    command = Transport(ssh_key_file="/k e/y%", known_hosts_file="/k h").ssh_command
    assert "BatchMode=yes" in command
    assert "StrictHostKeyChecking=yes" in command
    assert "-i '/k e/y%%'" in command
    assert "'UserKnownHostsFile=\"/k h\"'" in command


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Host key verification failed.\nfatal: Could not read from remote repository.", "host key is not known"),
        ("git@h: Permission denied (publickey).\nfatal: Could not read", "login: git@h: Permission denied (pub"),
        ("@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\ngit@h: Permission denied (publickey).", "that others can read"),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", "refused the login"),
        ("fatal: couldn't find remote ref nope", "no such branch"),
        ("remote: Repository not found.\nfatal: repository 'https://h/x/' not found", "no such repository"),
        ("fatal: write error: No space left on device", "disk is full"),
        ("fatal: detected dubious ownership in repository at '/x'", "another account"),
        ("error: insufficient permission for adding an object to repository database .git/objects", "another account"),
    ],
)
def test_complaints_of_git_become_one_line_with_a_way_out(said: str, meant: str) -> None:
    error = failures.failure_of(said, path="x")
    assert meant in error.message
    assert error.hint


@pytest.mark.parametrize(
    "ref",
    ["--upload-pack=touch /tmp/x", "-x", "", "a..b", "main~1", "main^{}", "a b", "@{-1}", "x.lock", "/a", "HEAD", ":x"],
)
def test_names_that_look_like_options_or_expressions_are_refused(world, ref: str) -> None:
    with pytest.raises(UsageError):
        world.mirror.resolve(ref)
    with pytest.raises(UsageError):
        world.mirror.fetch(world.url, [ref])


@pytest.mark.parametrize("world", ["self", "other"], indirect=True)
def test_the_mirror_is_private_and_the_owners(world) -> None:
    assert world.mirror.ensure()
    assert not world.mirror.ensure()
    facts = world.mirror.directory.stat()
    assert facts.st_mode & 0o777 == 0o700
    assert {path.stat().st_uid for path in world.mirror.directory.rglob("*")} == {world.account.uid}


def test_a_mirror_that_is_a_symlink_or_somebody_elses_is_refused(world) -> None:
    (world.place / "state/mirrors").mkdir(parents=True)
    world.mirror.directory.symlink_to(world.place / "home")
    with pytest.raises(UnsafePathError):
        world.mirror.ensure()
    world.mirror.directory.unlink()
    world.mirror.directory.mkdir()
    if world.account.uid != os.geteuid():
        with pytest.raises(TradekeepError, match="does not belong"):
            world.mirror.ensure()


@pytest.mark.root
def test_a_state_directory_that_the_owner_cannot_enter_is_named(world) -> None:
    if world.account.uid == 0:
        return
    (world.place / "state").mkdir(mode=0o700)
    with pytest.raises(CommandError, match="cannot be entered by nobody"):
        world.mirror.ensure()


def test_branches_tags_and_numbers_are_resolved(world) -> None:
    first = world.upstream.commit({"a": "1"})
    world.upstream.git("tag", "-a", "-m", "one", "v1")
    world.upstream.git("tag", "-a", "-m", "again", "v1.1", "v1")
    second = world.upstream.commit({"a": "2"})
    world.upstream.git("branch", "feature/x")
    mirror = world.fetched()
    assert mirror.resolve("main").commit == second
    assert mirror.resolve("feature/x").kind is refs.RefKind.BRANCH
    assert mirror.resolve("v1").commit == first
    assert mirror.resolve("v1").tag == world.upstream.git("rev-parse", "v1")
    assert mirror.resolve("v1.1").commit == first
    assert mirror.resolve(first[:9]).commit == mirror.resolve(first.upper()).commit == first
    assert mirror.resolve("refs/heads/main").commit == second
    assert mirror.contains("main", first)
    assert not mirror.contains("nope", first)
    with pytest.raises(CommandError, match="no such branch"):
        mirror.resolve("feature")
    with pytest.raises(CommandError, match="no such branch"):
        mirror.resolve("f" * 40)


def test_two_meanings_are_an_error(world) -> None:
    first = world.upstream.commit({"a": "1"})
    second = world.upstream.commit({"a": "2"})
    world.upstream.git("tag", "both", first)
    world.upstream.git("branch", "both", second)
    world.upstream.git("branch", first[:8], second)
    world.upstream.git("tag", "blob", "HEAD:a")
    mirror = world.fetched()
    for ref in ("both", first[:8]):
        with pytest.raises(CommandError, match="is ambiguous"):
            mirror.resolve(ref)
    assert mirror.resolve("refs/tags/both").commit == first
    with pytest.raises(CommandError, match="does not stand for a commit"):
        mirror.resolve("blob")


def test_what_is_on_no_branch_can_be_asked_for(world) -> None:
    world.upstream.commit({"a": "1"})
    aside = world.upstream.commit({"a": "2"})
    world.upstream.git("update-ref", "refs/pull/7/head", aside)
    world.upstream.git("reset", "--quiet", "--hard", "HEAD~1")
    world.upstream.git("config", "uploadpack.allowAnySHA1InWant", "true")
    mirror = world.fetched()
    with pytest.raises(CommandError):
        mirror.resolve(aside)
    mirror.fetch(world.url, [aside])
    assert mirror.resolve(aside).commit == aside
    mirror.fetch(world.url, ["refs/pull/7/head"])
    assert mirror.resolve("refs/pull/7/head").commit == aside


def test_a_branch_that_moves_after_it_was_resolved_changes_nothing(world) -> None:
    first = world.upstream.commit({"a": "1"})
    mirror = world.fetched()
    target = mirror.resolve("main")
    world.upstream.git("commit", "--quiet", "--amend", "--message", "other")
    world.upstream.commit({"a": "2"})
    mirror.fetch(world.url)
    assert target.commit == first
    stage = world.directory("stage")
    mirror.export(target.commit, ["a"], stage)
    assert (stage / "a").read_text() == "1"
    assert mirror.resolve("main").commit != first


def test_branches_that_go_away_upstream_go_away_here(world) -> None:
    world.upstream.commit({"a": "1"})
    world.upstream.git("branch", "x")
    world.fetched()
    world.upstream.git("branch", "--delete", "--force", "x")
    world.upstream.git("branch", "x/y")
    assert world.fetched().resolve("x/y")
    with pytest.raises(CommandError):
        world.mirror.resolve("x")


@pytest.mark.parametrize("made", [False, True])
def test_a_peek_leaves_nothing_anywhere(world, made: bool, monkeypatch) -> None:
    first = world.upstream.commit({"a": "1"})
    live = world.clone()
    if made:
        world.fetched()
    second = world.upstream.commit({"a": "2"})
    before = world.listing()
    # Others have their own in the usual place at the same time.
    temporary = Path(tempfile.mkdtemp(prefix="tradekeep-test-"))
    temporary.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with world.mirror.peek() as peek:
        peek.fetch(world.url)
        assert peek.resolve("main").commit == second
        assert peek.diff_summary(first, second).modified == ("a",)
        peek.fetch_from_checkout(world.checkout(live), first)
        world.checkout(live).look(peek)
        assert peek.ignored(second) == set()
    assert world.listing() == before
    assert os.listdir(temporary) == []
    temporary.rmdir()


@pytest.mark.parametrize("world", ["self", "other"], indirect=True)
def test_a_peek_sees_a_commit_that_only_the_checkout_has(world) -> None:
    world.upstream.commit({"a": "1"})
    live = world.clone()
    local = live.commit({"b": "local"})
    with world.mirror.peek() as peek:
        peek.fetch(world.url)
        peek.fetch_from_checkout(world.checkout(live), local)
        assert [entry.path for entry in peek.tree(local)] == ["a", "b"]
        assert peek.diff_summary(local, peek.resolve("main").commit).removed == ("b",)


@pytest.mark.parametrize("world", ["self", "other"], indirect=True)
def test_trees_differences_and_messages(world) -> None:
    world.upstream.write({"run": "#!"})
    os.symlink("run", world.upstream.directory / "link")
    (world.upstream.directory / "run").chmod(0o755)
    first = world.upstream.commit({ODD: "1", "gone": "1", "-x": "1", ":(top)y": "1"})
    second = world.upstream.commit({ODD: "2", "gone": None, "added": "1"})
    mirror = world.fetched()
    modes = {entry.path: (entry.mode, entry.size) for entry in mirror.tree(first)}
    assert modes["run"] == (0o100755, 2)
    assert modes["link"] == (0o120000, 3)
    assert modes[ODD] == (0o100644, 1)
    changes = mirror.diff_summary(first, second)
    assert (changes.added, changes.modified, changes.removed) == (("added",), (ODD,), ("gone",))
    assert [(line.commit, line.subject) for line in mirror.log(first, second)] == [(second, "change")]
    assert mirror.blobs([entry.oid for entry in mirror.tree(first) if entry.path == "run"]).popitem()[1] == b"#!"
    stage = world.directory("stage")
    mirror.export(second, [entry.path for entry in mirror.tree(second)], stage)
    assert sorted(os.listdir(stage)) == sorted([ODD, "added", "run", "link", "-x", ":(top)y"])
    assert os.readlink(stage / "link") == "run"
    assert (stage / "run").stat().st_mode & 0o111
    assert {path.lstat().st_uid for path in stage.iterdir()} == {world.account.uid}


def test_hazard_d13_export_ignore_hides_nothing(world) -> None:
    files = {".gitattributes": "secret.cfg export-ignore\ntests export-ignore\nx.txt eol=crlf\n", "x.txt": "a\n"}
    commit = world.upstream.commit({**files, "secret.cfg": "1", "tests/t": "1"})
    mirror, stage = world.fetched(), world.directory("stage")
    mirror.export(commit, [entry.path for entry in mirror.tree(commit)], stage)
    assert (stage / "secret.cfg").read_text() == "1"
    assert (stage / "tests/t").read_text() == "1"
    assert (stage / "x.txt").read_bytes() == b"a\r\n"  # as a checkout has it, attributes included


def test_hazard_d13_attributes_count_though_their_file_is_not_exported(world) -> None:
    commit = world.upstream.commit({".gitattributes": "x.txt eol=crlf\n", "x.txt": "a\n"})
    mirror, stage = world.fetched(), world.directory("stage")
    mirror.export(commit, ["x.txt"], stage)
    assert (stage / "x.txt").read_bytes() == b"a\r\n"


def test_hazard_d13_submodules_are_refused_by_name(world) -> None:
    number = world.upstream.commit({"a": "1"})
    world.upstream.git("update-index", "--add", "--cacheinfo", f"160000,{number},lib/sub")
    world.upstream.git("commit", "--quiet", "--message", "sub")
    mirror, stage = world.fetched(), world.directory("stage")
    commit = mirror.resolve("main").commit
    assert [entry.path for entry in mirror.tree(commit) if entry.mode == 0o160000] == ["lib/sub"]
    with pytest.raises(TradekeepError, match="lib/sub: is a submodule"):
        mirror.export(commit, ["a", "lib/sub"], stage)
    assert os.listdir(stage) == []


def test_hazard_d13_unresolved_lfs_pointers_are_refused_by_name(world) -> None:
    commit = world.upstream.commit({".gitattributes": "*.bin filter=lfs\n", "m.bin": POINTER, "a": "1"})
    mirror, stage = world.fetched(), world.directory("stage")
    with pytest.raises(TradekeepError, match=r"m\.bin: is a pointer of git-lfs.*git lfs install"):
        mirror.export(commit, ["a", "m.bin"], stage)
    assert os.listdir(stage) == []
    mirror.export(commit, ["a"], stage)


def test_hazard_d13_files_that_git_crypt_left_locked_are_refused_by_name(world) -> None:
    commit = world.upstream.commit({"key.cfg": "\0GITCRYPT\0abc"})
    with pytest.raises(TradekeepError, match=r"key\.cfg: is encrypted by git-crypt"):
        world.fetched().export(commit, ["key.cfg"], world.directory("stage"))


@pytest.mark.parametrize("world", ["self", "other"], indirect=True)
def test_hazard_d13_a_filter_that_works_puts_the_content_in_place(world) -> None:
    commit = world.upstream.commit({".gitattributes": "*.bin filter=lfs\n", "m.bin": POINTER})
    settings = Path(world.account.home, ".gitconfig")
    settings.write_text('[filter "lfs"]\n\tsmudge = "id -u; echo content of %f"\n\trequired\n')
    stage = world.directory("stage")
    world.fetched().export(commit, ["m.bin"], stage)
    assert (stage / "m.bin").read_text() == f"{world.account.uid}\ncontent of m.bin\n"


@pytest.mark.parametrize("required", ["true", "false"])
def test_hazard_d13_a_failing_filter_is_an_error_and_leaves_nothing(world, required: str) -> None:
    commit = world.upstream.commit({".gitattributes": "m.bin filter=x\n", "a": "1", "m.bin": "x", "z": "1"})
    Path(world.account.home, ".gitconfig").write_text(f'[filter "x"]\n\tsmudge = "exit 3"\n\trequired = {required}\n')
    mirror, stage = world.fetched(), world.directory("stage")
    with pytest.raises(CommandError, match="a filter of the repository failed"):
        mirror.export(commit, [".gitattributes", "a", "m.bin", "z"], stage)
    assert os.listdir(stage) == []


def test_hazard_d1_files_tracked_although_ignored_are_found(world) -> None:
    rules = {".gitignore": "*.jsonl\n/data/*\n!/data/keep/\nlogs/\n", "deep/.gitignore": "*.db\n!good.db\n"}
    rules["odd/.gitignore"] = "new*\n"
    tracked = ["a.jsonl", "data/x", "data/keep/y", "logs/deep/z", "deep/b.db", "deep/good.db", "b.db", "code.py"]
    commit = world.upstream.commit({**rules, **dict.fromkeys([*tracked, f"odd/{ODD}"], "1")})
    Path(world.account.home, ".gitconfig").write_text("[core]\n\texcludesFile = ~/ignore\n")
    Path(world.account.home, "ignore").write_text("code.py\n")
    wanted = {"a.jsonl", "data/x", "logs/deep/z", "deep/b.db", f"odd/{ODD}"}
    mirror = world.fetched()
    assert mirror.ignored(commit) == wanted
    assert mirror.ignored(commit, ["code.py", "data/x"]) == {"data/x"}


def test_hazard_d5_a_rule_that_goes_away_is_seen(world) -> None:
    first = world.upstream.commit({".gitignore": "*.log\n", "x.log": "1"})
    second = world.upstream.commit({".gitignore": None})
    mirror = world.fetched()
    assert mirror.ignored(first) == {"x.log"}
    assert mirror.ignored(second) == set()


def test_hazard_d12_the_rollback_commit_survives_gc(world) -> None:
    old = world.upstream.commit({"a": "old"})
    mirror = world.fetched()
    mirror.keep(old)
    mirror.keep(old)
    world.upstream.git("commit", "--quiet", "--amend", "--message", "rewritten")
    mirror.fetch(world.url)
    mirror.git.run("gc", "--quiet", "--prune=now")
    mirror.tidy()
    stage = world.directory("stage")
    mirror.export(old, ["a"], stage)
    assert (stage / "a").read_text() == "old"
    mirror.drop(old)
    mirror.git.run("gc", "--quiet", "--prune=now")
    assert not mirror.has(old)
    assert mirror.kept() == []


@pytest.mark.root
def test_hazard_d12_a_repository_of_another_account_is_a_clear_error(world) -> None:
    world.upstream.commit({"a": "1"})
    stranger = Account("#54321", 54321, 54321, "/")
    mirror = Mirror(world.runner, stranger, world.place / "strange.git")
    mirror.ensure()
    with pytest.raises(CommandError, match="belongs to another account"):
        mirror.fetch(world.url)


def test_hostile_paths_in_a_tree_are_refused(world) -> None:
    blob = world.upstream.git("hash-object", "-w", "/dev/null")
    listing = world.place / "home/listing"
    listing.write_text(f"100644 blob {blob}\t..\n")
    argv = ["sh", "-c", f"git mktree <{listing}"]
    told = world.runner.run(command_as(world.account, argv, directory=world.url)).stdout.strip()
    commit = world.upstream.git("commit-tree", told, "-m", "x")
    world.upstream.git("update-ref", "refs/heads/main", commit)
    with pytest.raises(UnsafePathError):
        world.fetched().tree(commit)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_hazard_d12_a_link_in_the_place_of_an_index_is_not_read(world, monkeypatch, link) -> None:
    """Git writes it as the owner, and root reads it."""
    world.upstream.commit({"a": "1"})
    mirror = world.fetched()
    secret = world.place / "secret"
    secret.write_text("of root\n")
    run = Git.run

    def swapped(git: Git, *arguments: str, **options):
        done = run(git, *arguments, **options)
        if arguments[0] == "read-tree":
            index = git._environment["GIT_INDEX_FILE"]
            os.unlink(index)
            link(secret, index)
        return done

    monkeypatch.setattr(Git, "run", swapped)
    with pytest.raises(UnsafePathError):
        mirror.index_of(mirror.resolve("main").commit)


def test_what_a_killed_git_has_left_is_swept(world, tmp_path: Path, monkeypatch) -> None:
    temporary = Path(tempfile.mkdtemp(prefix="tradekeep-test-"))
    temporary.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with private_directory(world.account, {"index": b"1"}) as used:
        left = temporary / ".tradekeep-git-1-0123456789abcdef"
        left.mkdir()
        (left / "index").write_bytes(b"1")
        os.chown(left, world.account.uid, world.account.gid)
        of_others = temporary / ".tradekeep-git-1-0123456789abcde0"
        of_others.mkdir()
        if os.geteuid() == 0:
            os.chown(of_others, world.account.uid + 1, -1)
            shutil.chown(left / "index", world.account.uid)
        world.mirror.ensure()
        assert used.is_dir()
        assert not left.exists()
        assert of_others.exists() == (os.geteuid() == 0)
    shutil.rmtree(temporary)
