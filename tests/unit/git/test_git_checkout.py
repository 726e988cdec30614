# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A checkout as people leave it behind: looked at without a trace, rescued whatever state it is in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CommandError,
    TradekeepError,
    UnsafePathError,
    UsageError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git import rescue as rescuing
from ansible_collections.tradekeep.ops.plugins.module_utils.core.git.checkout import Checkout
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import Account, command_as

ODD = "new\nline \udcff\t*.x"


def refs_of(live) -> str:
    return live.git("for-each-ref") + live.git("symbolic-ref", "HEAD", check=False)


def applies(world, live, patch: Path) -> dict[str, bytes]:
    """What the files are where HEAD is checked out anew and the difference applied."""
    again = world.repository("again")
    again.git("clone", "--quiet", "--no-checkout", str(live.directory), ".")
    again.git("checkout", "--quiet", "--detach", live.git("rev-parse", "HEAD"))
    copy = again.directory / ".git/the.patch"
    copy.write_bytes(patch.read_bytes())
    again.give()
    again.git("apply", str(copy))
    return {
        os.path.relpath(os.path.join(parent, name), again.directory): Path(parent, name).read_bytes()
        for parent, _names, files in os.walk(again.directory)
        for name in files
        if "/.git" not in parent
    }


def conflict(world):
    """A merge with a conflict in progress, local commits, edits and a stash."""
    world.upstream.commit({"a": "base\n", ODD: "odd\n", "bin": "\0\1\2", "gone": "1", "ours": "1\n", "theirs": "1\n"})
    live = world.clone()
    live.git("checkout", "--quiet", "-b", "theirs")
    theirs = live.commit({"a": "theirs\n", "new": "1", "ours": None, "theirs": "2\n"})
    live.git("checkout", "--quiet", "main")
    ours = live.commit({"a": "ours\n", "ours": "2\n", "theirs": None})
    live.write({"bin": "stashed"})
    live.git("stash", "push", "--quiet")
    live.write({"bin": "again"})
    live.git("stash", "push", "--quiet")
    live.git("merge", "theirs", check=False)
    live.write({"bin": "\0\5\6edited", ODD: "edited odd\n", "gone": None, "ours": "mine\n", "theirs": "mine too\n"})
    return live, ours, theirs


def test_no_checkout_is_none_and_a_parents_never_counts(world) -> None:
    world.upstream.commit({"sub/a": "1"})
    assert Checkout.at(world.runner, world.account, world.upstream.directory / "sub") is None
    assert Checkout.at(world.runner, world.account, world.place / "nope") is None


def test_a_clean_checkout(world) -> None:
    commit = world.upstream.commit({"a": "1"})
    state = world.checkout(world.clone()).look(world.fetched())
    assert (state.head, state.branch, state.detached) == (commit, "main", False)
    assert not state.has_local_work
    assert not (state.shallow or state.sparse or state.linked_worktree or state.has_submodules)
    assert state.index_lock is None
    assert state.in_progress is None


def test_an_empty_repository(world) -> None:
    state = world.checkout(world.upstream).look()
    assert (state.head, state.branch) == (None, "main")
    assert rescuing.rescue(world.checkout(world.upstream), "s", into=world.place).refs == {}


@pytest.mark.parametrize("world", ["self", "other"], indirect=True)
def test_hazard_d11_a_merge_with_conflicts_is_seen_and_rescued(world) -> None:
    live, ours, theirs = conflict(world)
    checkout = world.checkout(live)
    before = world.listing()
    state = checkout.look()
    assert world.listing() == before
    assert state.in_progress == "merge"
    assert state.unmerged == ("a", "ours", "theirs")
    assert set(state.edited) == {"a", "bin", ODD, "gone", "new", "ours", "theirs"}
    assert set(state.local_commits) == {ours, theirs}
    assert len(state.stashes) == 2
    refs = refs_of(live)
    kept = world.place / "kept"
    kept.mkdir()
    rescued = rescuing.rescue(checkout, "20260101_000000", into=kept)
    prefix = "refs/rescue/20260101_000000/"
    assert rescued.refs[f"{prefix}HEAD"] == ours
    assert rescued.refs[f"{prefix}MERGE_HEAD"] == theirs
    assert (rescued.refs[f"{prefix}stash-0"], rescued.refs[f"{prefix}stash-1"]) == state.stashes
    assert rescued.refs[f"{prefix}branches/theirs"] == theirs
    assert rescuing.rescued_refs(checkout) == rescued.refs
    assert rescuing.rescue(checkout, "20260101_000000").refs == rescued.refs
    assert rescued.differences is not None
    assert rescued.differences.stat().st_mode & 0o777 == 0o600
    files = applies(world, live, rescued.differences)
    assert files["bin"] == b"\0\5\6edited"
    assert files[ODD] == b"edited odd\n"
    assert files["new"] == b"1"
    assert b"<<<<<<<" in files["a"]
    assert (files["ours"], files["theirs"]) == (b"mine\n", b"mine too\n")
    assert "gone" not in files
    # Nothing but the rescue refs came to be: the merge goes on as it was.
    assert "\n".join(line for line in refs_of(live).splitlines() if "rescue" not in line) == refs
    assert checkout.look() == state


def test_hazard_d11_commits_on_a_detached_head_survive_gc(world) -> None:
    world.upstream.commit({"a": "1"})
    live = world.clone()
    live.git("checkout", "--quiet", "--detach")
    local = live.commit({"a": "2"})
    checkout = world.checkout(live)
    state = checkout.look(world.fetched())
    assert state.detached
    assert state.local_commits == (local,)
    rescuing.rescue(checkout, "s")
    live.git("checkout", "--quiet", "main")
    live.git("reflog", "expire", "--expire=now", "--all")
    live.git("gc", "--quiet", "--prune=now")
    assert live.git("cat-file", "-t", local) == "commit"


def test_hazard_d11_what_is_staged_and_was_edited_again_is_kept_too(world) -> None:
    world.upstream.commit({"a": "1\n"})
    live = world.clone()
    live.write({"a": "staged\n", "added": "x\n"})
    live.git("add", ".")
    live.write({"a": "edited\n"})
    checkout = world.checkout(live)
    state = checkout.look()
    assert state.staged == ("a", "added")
    rescued = rescuing.rescue(checkout, "s", into=world.place)
    assert rescued.differences is not None
    assert rescued.staged is not None
    assert b"+edited" in rescued.differences.read_bytes()
    assert b"+staged" in rescued.staged.read_bytes()
    assert applies(world, live, rescued.staged) == {"a": b"staged\n", "added": b"x\n"}


def test_no_edit_leaves_no_file_and_unseen_paths_are_left_out(world) -> None:
    world.upstream.commit({"a": "1\n", "trades.jsonl": "1\n"})
    live = world.clone()
    kept = world.place / "kept"
    kept.mkdir()
    checkout = world.checkout(live)
    assert rescuing.rescue(checkout, "s", into=kept).differences is None
    assert os.listdir(kept) == []
    live.write({"trades.jsonl": "1\n2\n"})
    assert checkout.look().edited == ("trades.jsonl",)
    assert rescuing.rescue(checkout, "s", into=kept, unseen=["trades.jsonl", "unknown"]).differences is None
    live.write({"a": "2\n"})
    rescued = rescuing.rescue(checkout, "s", into=kept, unseen=["trades.jsonl"])
    assert rescued.differences is not None
    assert b"jsonl" not in rescued.differences.read_bytes()


def test_hazard_d11_an_edit_in_the_second_of_the_last_checkout_is_seen(world) -> None:
    """Git cannot tell it by size and time, and so reads what is as young as the index: the copy must be as old."""
    world.upstream.commit({"a": "1\n"})
    live = world.clone()
    live.git("config", "core.trustCtime", "false")
    moment = (1_000_000_000, 1_000_000_000)
    os.utime(live.directory / "a", moment)
    live.git("update-index", "--refresh")
    (live.directory / "a").write_text("2\n")
    os.utime(live.directory / "a", moment)
    os.utime(live.directory / ".git/index", moment)
    assert world.checkout(live).look().edited == ("a",)


def test_commits_that_upstream_has_are_not_local(world) -> None:
    world.upstream.commit({"a": "1"})
    live = world.clone()
    live.git("remote", "remove", "origin")
    checkout = world.checkout(live)
    assert len(checkout.look().local_commits) == 1
    assert checkout.look(world.fetched()).local_commits == ()
    local = live.commit({"a": "2"})
    world.mirror.fetch_from_checkout(checkout, local)
    assert checkout.look(world.mirror).local_commits == (local,)
    live.git("push", "--quiet", world.url, "HEAD:refs/heads/pushed")
    assert checkout.look(world.fetched()).local_commits == ()


def test_hazard_d7_edits_hidden_by_skip_worktree_and_assume_unchanged_are_seen(world) -> None:
    world.upstream.commit({"skip": "1\n", "assume": "1\n", "same": "1\n"})
    live = world.clone()
    live.git("update-index", "--skip-worktree", "skip", "same")
    live.git("update-index", "--assume-unchanged", "assume")
    live.write({"skip": "mine\n", "assume": "mine\n"})
    checkout = world.checkout(live)
    state = checkout.look()
    assert state.skip_worktree == ("same", "skip")
    assert state.assume_unchanged == ("assume",)
    assert state.edited == ("assume", "skip")
    rescued = rescuing.rescue(checkout, "s", into=world.place)
    assert rescued.differences is not None
    assert applies(world, live, rescued.differences) == {"skip": b"mine\n", "assume": b"mine\n", "same": b"1\n"}


def test_hazard_d7_a_sparse_checkout_is_no_edit(world) -> None:
    world.upstream.commit({"in/a": "1\n", "out/b": "1\n"})
    live = world.clone()
    live.git("sparse-checkout", "set", "in")
    state = world.checkout(live).look()
    assert state.sparse
    assert state.skip_worktree == ("out/b",)
    assert state.edited == ()


@pytest.mark.parametrize("world", ["self", "other"], indirect=True)
def test_hazard_d8_an_index_lock_is_stale_or_held(world) -> None:
    world.upstream.commit({"a": "1"})
    live = world.clone()
    checkout = world.checkout(live)
    lock = live.directory / ".git/index.lock"
    lock.write_bytes(b"")
    state = checkout.look()
    assert state.index_lock is not None
    assert state.index_lock.stale
    hold = "import sys; f = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    argv = command_as(world.account, [sys.executable, "-c", hold, str(lock)])
    if world.account.uid != os.geteuid():
        lock.chmod(0o644)
        argv = command_as(world.account, ["/usr/bin/python3", "-c", hold, str(lock)])
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        state = checkout.look()
        assert state.index_lock is not None
        assert state.index_lock.holder == holder.pid
        assert not state.index_lock.stale
        holder.communicate(b"")
    assert checkout.look().index_lock is not None
    assert lock.exists()


def test_hazard_d8_a_git_that_waits_for_an_editor_holds_the_lock(world) -> None:
    world.upstream.commit({"a": "1"})
    live = world.clone()
    live.write({"a": "2"})
    waiting = world.place / "home/waiting"
    editor = live.directory / ".git/editor"
    editor.write_text(f"#!/bin/sh\necho > {waiting}\nread x\nexit 1\n")
    editor.chmod(0o755)
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", f"core.editor={editor}"]
    argv = command_as(world.account, ["git", *settings, "commit", "-a"], directory=str(live.directory))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, env={**os.environ, "HOME": world.account.home}, **quiet) as held:
        while not waiting.exists() and held.poll() is None:
            time.sleep(0.01)
        lock = world.checkout(live).look().index_lock
        held.communicate(b"\n")
    assert lock is not None
    assert lock.holder == held.pid


def test_linked_work_trees_and_submodules_are_named(world) -> None:
    commit = world.upstream.commit({"a": "1"})
    live = world.clone()
    live.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    live.git("commit", "--quiet", "--message", "sub")
    linked = world.directory("linked")
    live.git("worktree", "add", "--quiet", "--detach", "--force", str(linked))
    found = Checkout.at(world.runner, world.account, linked)
    assert found is not None
    state = found.look()
    assert state.linked_worktree
    assert state.has_submodules
    assert state.head == live.git("rev-parse", "HEAD")
    assert found.objects == live.directory / ".git/objects"
    world.mirror.ensure()
    world.mirror.fetch_from_checkout(found, state.head)
    assert world.mirror.has(state.head)


@pytest.mark.parametrize("command", [["rebase", "main"], ["cherry-pick", "main"]])
def test_hazard_d11_other_unfinished_work_is_seen(world, command: list[str]) -> None:
    world.upstream.commit({"a": "1\n"})
    live = world.clone()
    live.git("checkout", "--quiet", "-b", "x")
    live.commit({"a": "2\n"})
    live.git("checkout", "--quiet", "main")
    live.commit({"a": "3\n"})
    live.git("checkout", "--quiet", "x")
    live.git(*command, check=False)
    checkout = world.checkout(live)
    assert checkout.look().in_progress == command[0]
    assert len(checkout.look().local_commits) == 2
    assert rescuing.rescue(checkout, "s", into=world.place).differences is not None


def test_a_stamp_is_a_stamp(world) -> None:
    for stamp in ("../x", "", "-x", "a b"):
        with pytest.raises(UsageError):
            rescuing.rescue(world.checkout(world.upstream), stamp)


def test_a_lost_or_broken_index_is_no_obstacle(world) -> None:
    world.upstream.commit({"a": "1\n"})
    live = world.clone()
    live.write({"a": "2\n"})
    (live.directory / ".git/index").unlink()
    assert world.checkout(live).look().edited == ("a",)


@pytest.mark.parametrize("depth", [(), ("--depth=1",)])
def test_a_commit_is_received_without_touching_anything_else(world, depth: tuple[str, ...]) -> None:
    world.upstream.commit({"a": "0"})
    world.upstream.commit({"a": "1"})
    live = world.clone(*depth)
    for number in range(3):
        world.upstream.commit({"a": f"new {number}"})
    world.upstream.git("tag", "v1")
    mirror = world.fetched()
    target = mirror.resolve("v1").commit
    live.write({"a": "edited"})
    live.git("config", "fetch.prune", "true")
    live.git("config", "gc.auto", "1")
    git_dir = live.directory / ".git"
    before = {path: info for path, info in world.listing().items() if "/live" in path and "/.git/objects" not in path}
    for _again in range(2):
        world.checkout(live).receive(mirror, target)
    after = {path: info for path, info in world.listing().items() if "/live" in path and "/.git/objects" not in path}
    git = str(git_dir)
    assert {path: info for path, info in after.items() if path != git} == {
        path: info for path, info in before.items() if path != git
    }
    assert live.git("cat-file", "-p", f"{target}:a") == "new 2"
    index = git_dir / "index.new"
    index.write_bytes(mirror.index_of(target))
    assert live.git("diff-index", "--cached", target, GIT_INDEX_FILE=str(index)) == ""


@pytest.mark.parametrize("world", ["self", "other"], indirect=True)
def test_a_checkout_that_is_switched_by_its_head_and_index_is_clean(world) -> None:
    """What a deploy does: files, HEAD and index exchanged, nothing else."""
    world.upstream.commit({"a": "1", ODD: "1"})
    live = world.clone()
    world.upstream.commit({"a": "2", "b": "2", ODD: None})
    mirror = world.fetched()
    target = mirror.resolve("main").commit
    checkout = world.checkout(live)
    checkout.receive(mirror, target)
    stage = world.directory("stage")
    mirror.export(target, ["a", "b"], stage)
    for name in ("a", "b"):
        (stage / name).replace(live.directory / name)
    (live.directory / ODD).unlink()
    (stage / "index").write_bytes(mirror.index_of(target))
    (stage / "index").replace(live.directory / ".git/index")
    (live.directory / ".git/HEAD").write_text(f"{target}\n")
    assert live.git("status", "--porcelain") == ""
    assert live.git("rev-parse", "HEAD") == target
    checkout.refresh()
    assert checkout.look(mirror).edited == ()


@pytest.mark.parametrize("local", [False, True])
def test_hazard_d12_a_shallow_checkouts_commit_survives_in_the_mirror(world, local: bool) -> None:
    world.upstream.commit({"a": "0"})
    adopted = world.upstream.commit({"a": "1", "b": "1"})
    live = world.clone("--depth=1")
    if local:
        adopted = live.commit({"a": "local"})
    # Upstream rewrites its history; the adopted commit is now in this checkout alone.
    world.upstream.git("checkout", "--quiet", "--orphan", "new")
    world.upstream.commit({"a": "other"})
    world.upstream.git("branch", "--force", "main")
    world.upstream.git("reflog", "expire", "--expire=now", "--all")
    world.upstream.git("gc", "--quiet", "--prune=now")
    mirror = world.fetched()
    checkout = world.checkout(live)
    state = checkout.look(mirror)
    assert state.shallow
    assert adopted in state.local_commits or not local
    assert not mirror.has(adopted)
    mirror.fetch_from_checkout(checkout, adopted)
    mirror.fetch(world.url)
    mirror.git.run("gc", "--quiet", "--prune=now")
    mirror.git.run("fsck")
    mirror.keep(adopted)
    assert mirror.kept() == [adopted]
    assert mirror.has(adopted)
    stage = world.directory("stage")
    mirror.export(adopted, [entry.path for entry in mirror.tree(adopted)], stage)
    assert (stage / "a").read_text() == ("local" if local else "1")
    target = mirror.resolve("main").commit
    assert "a" in mirror.diff_summary(adopted, target).modified
    assert mirror.log(adopted, target) == []
    (stage / "index").write_bytes(mirror.index_of(adopted))
    assert not (mirror.directory / "shallow").exists()


@pytest.mark.parametrize("world", ["self", "other"], indirect=True)
def test_hazard_d12_nothing_that_a_repository_brings_along_runs(world) -> None:
    """Hooks, the file system monitor, external differences, and programs that a mirror's configuration names."""
    world.upstream.commit({"a": "1", ".gitattributes": "a diff=x\n"})
    live = world.clone()
    world.fetched()
    ran = world.place / "home/ran"
    trap = world.place / "trap"
    trap.write_text(f'#!/bin/sh\necho "$(id -u) $0 $*" >> {ran}\nexit 0\n')
    trap.chmod(0o755)
    hooks = ["pre-commit", "post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc", "update"]
    for git_dir, repository in ((live.directory / ".git", live), (world.mirror.directory, None)):
        config = str(git_dir / "config")
        (git_dir / "hooks").mkdir(exist_ok=True)
        for hook in hooks:
            target = git_dir / "hooks" / hook
            target.unlink(missing_ok=True)
            target.symlink_to(trap)
        for key in (
            "core.fsmonitor",
            "diff.external",
            "diff.x.command",
            "diff.x.textconv",
            "core.sshCommand",
            "core.pager",
        ):
            (repository or live).git("config", "--file", config, key, str(trap))
        (repository or live).git("config", "--file", config, "core.hooksPath", str(git_dir / "hooks"))
    live.give()
    live.git("status")
    assert ran.exists(), "the trap itself works"
    ran.unlink()
    live.write({"a": "2"})
    second = world.upstream.commit({"a": "3"})
    mirror, checkout = world.fetched(), world.checkout(live)
    checkout.look(mirror)
    checkout.receive(mirror, second)
    rescuing.rescue(checkout, "s", into=world.place)
    mirror.fetch_from_checkout(checkout, checkout.head() or "")
    mirror.export(second, ["a"], world.directory("stage"))
    (world.directory("other") / "index").write_bytes(mirror.index_of(second))
    mirror.ignored(second)
    mirror.tidy()
    checkout.refresh()
    with mirror.peek() as peek:
        peek.fetch(world.url)
    assert not ran.exists(), ran.read_text()


@pytest.mark.root
def test_hazard_d12_root_does_not_work_in_a_checkout_of_another_account(world) -> None:
    if world.account.uid == 0:
        return
    live = world.clone() if world.upstream.commit({"a": "1"}) else None
    root = Account("root", 0, 0, "/root")
    with pytest.raises(TradekeepError, match=r"belongs to nobody, and git runs as root.*chown"):
        Checkout.at(world.runner, root, live.directory)


@pytest.mark.root
def test_hazard_d12_parts_that_root_left_behind_are_named(world) -> None:
    if world.account.uid == 0:
        return
    world.upstream.commit({"a": "1"})
    live = world.clone()
    second = world.upstream.commit({"a": "2"})
    for directory in [live.directory / ".git/objects", *(live.directory / ".git/objects").rglob("*")]:
        os.chown(directory, 0, 0)
    with pytest.raises(CommandError, match="belong to another account"):
        world.checkout(live).receive(world.fetched(), second)


def test_a_git_directory_that_is_a_symlink_is_refused(world) -> None:
    world.upstream.commit({"a": "1"})
    live = world.clone()
    (live.directory / ".git").rename(world.place / "elsewhere")
    (live.directory / ".git").symlink_to(world.place / "elsewhere")
    with pytest.raises(UnsafePathError):
        world.checkout(live)


def test_names_of_ours_are_not_listed_as_untracked(world) -> None:
    world.upstream.commit({"a": "1"})
    live = world.clone()
    live.write({".tradekeep-stage/x": "1", "mine.txt": "1"})
    exclude = live.directory / ".git/info/exclude"
    before = exclude.read_text()
    checkout = world.checkout(live)
    checkout.exclude(".tradekeep*")
    assert live.git("status", "--short") == "?? mine.txt"
    assert exclude.read_text() == f"{before}.tradekeep*\n"
    checkout.exclude(".tradekeep*")
    assert exclude.read_text() == f"{before}.tradekeep*\n"
    # What leads elsewhere, and what would never end, is left alone.
    elsewhere = world.place / "elsewhere"
    elsewhere.write_text("as it was")
    exclude.unlink()
    exclude.symlink_to(elsewhere)
    checkout.exclude(".tradekeep*")
    exclude.unlink()
    os.mkfifo(exclude)
    checkout.exclude(".tradekeep*")
    assert elsewhere.read_text() == "as it was" and exclude.is_fifo()
