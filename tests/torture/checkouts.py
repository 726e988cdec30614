# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""HAZARDS D 11 to 13: what is in the checkout's own repository, and what git leaves out or cannot know."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from cases import Case
from deployers import CopyAway, GitResetClean, Script, shell
from judging import Damage, said_somewhere
from world import IGNORED, Submodule, World, git

RESET, ANSIBLE, COPY = "reset and clean", "ansible.builtin.git", "copy away and back"
ALL = (RESET, ANSIBLE)
HOTFIX = "print('hotfix on the server')\n"
SECRETS = "config/secrets.yaml"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4" * 64 + "\nsize 80000000\n"


def local_commit(world: World) -> None:
    (world.live / "main.py").write_text(HOTFIX)
    git(world.live, "commit", "--quiet", "--all", "-m", "Hotfix")
    world.first = git(world.live, "rev-parse", "HEAD")


def detached_commit(world: World) -> None:
    git(world.live, "checkout", "--quiet", "--detach")
    local_commit(world)


def edited(world: World) -> None:
    (world.live / "main.py").write_text(HOTFIX)
    (world.live / "bin/run").write_text("#!/bin/sh\n# staged on the server\n")
    git(world.live, "add", "bin/run")


def merging(world: World) -> None:
    """A merge with a conflict, of a commit that has no other name."""
    git(world.live, "checkout", "--quiet", "--detach")
    (world.live / "main.py").write_text(HOTFIX)
    git(world.live, "commit", "--quiet", "--all", "-m", "Hotfix")
    side = git(world.live, "rev-parse", "HEAD")
    git(world.live, "checkout", "--quiet", "main")
    (world.live / "main.py").write_text("print('something else')\n")
    git(world.live, "commit", "--quiet", "--all", "-m", "Something else")
    git(world.live, "merge", side, check=False)
    assert (world.live / ".git/MERGE_HEAD").exists()
    (world.live / "main.py").write_text(f"{HOTFIX}# half resolved\n")
    world.first = git(world.live, "rev-parse", "HEAD")


def stashed(world: World) -> None:
    (world.live / "main.py").write_text(HOTFIX)
    git(world.live, "stash", "--quiet")


def unreachable(world: World) -> list[Damage]:
    """A commit with the hotfix must be reachable by a name; the reflog ends one day."""
    texts = git(world.live, "log", "--all", "--format=", "-p", "-m", "--", "main.py", check=False)
    return [] if "hotfix on the server" in texts else [Damage("a local commit", "is reachable by no name")]


def edit_gone(world: World) -> list[Damage]:
    wanted = {"main.py": "hotfix on the server", "bin/run": "staged on the server"}
    return [
        Damage(path, "edits lost")
        for path, text in wanted.items()
        if text not in (world.live / path).read_text() and not said_somewhere(world.state, text.encode())
    ]


def merge_gone(world: World) -> list[Damage]:
    text = b"half resolved"
    lost = text not in (world.live / "main.py").read_bytes() and not said_somewhere(world.state, text)
    return [*unreachable(world), *([Damage("main.py", "half resolved merge lost")] if lost else [])]


def collect_garbage(world: World) -> None:
    git(world.live, "reflog", "expire", "--expire=now", "--all")
    git(world.live, "gc", "--quiet", "--prune=now")


@dataclass(frozen=True)
class Shallow:
    """Reset and clean in a shallow clone stays shallow."""

    name: str = RESET

    def deploy(self, world: World, commit: str) -> bool:
        wanted = "FETCH_HEAD" if commit == world.second else commit
        return shell(world, f"git fetch --depth 1 origin main && git reset --hard {wanted}").returncode == 0


def hostile(world: World) -> None:
    """A checkout of the bot's account, in whose hooks and settings a visitor has written."""
    evidence = world.base / "evidence"
    evidence.mkdir()
    evidence.chmod(0o777)
    program = world.live / ".git/hooks/reference-transaction"
    program.write_text(f"#!/bin/sh\nid -u >>{evidence}/hook\ncat >/dev/null\n")
    program.chmod(0o755)
    monitor = world.live / ".git/monitor"
    monitor.write_text(f"#!/bin/sh\nid -u >>{evidence}/monitor\nexit 1\n")
    monitor.chmod(0o755)
    git(world.live, "config", "core.fsmonitor", str(monitor))
    nobody = pwd.getpwnam("nobody")
    for top in (world.live, world.upstream):
        for place, directories, files in os.walk(top):
            for name in (".", *directories, *files):
                os.chown(os.path.join(place, name), nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)


def ran_as_root(world: World) -> list[Damage]:
    found = sorted(path for path in (world.base / "evidence").iterdir() if "0" in path.read_text().split())
    return [Damage(f"the bot's {path.name}", "ran as root") for path in found]


def private(world: World) -> None:
    (world.live / SECRETS).chmod(0o600)


def readable(world: World) -> list[Damage]:
    mode = (world.live / SECRETS).stat().st_mode & 0o777
    return [Damage(SECRETS, f"0600 became {mode:04o}")] if mode != 0o600 else []


def one_for_two(world: World) -> list[Damage]:
    """``Data`` beside ``data``: one of them is found on a disk or a computer that does not tell them apart."""
    return [Damage("data", "has a double, Data")] if (world.live / "Data").exists() else []


def helper_left_behind(world: World) -> list[Damage]:
    new = ["two" in (world.live / path).read_text() for path in ("main.py", "lib/helper.py")]
    return [] if new[0] == new[1] else [Damage("lib/helper.py", "is the old one beside new code")]


def pointer(world: World) -> list[Damage]:
    held = (world.live / "models/model.bin").read_bytes()
    return [Damage("models/model.bin", "became a pointer")] if held.startswith(b"version") else []


def hollow(world: World) -> list[Damage]:
    place = world.live / "vendor/exchange"
    return [Damage("vendor/exchange", "is empty")] if place.is_dir() and not os.listdir(place) else []


CASES = (
    Case(
        "local-commits",
        11,
        "commits made on the server",
        prepare=local_commit,
        harm=unreachable,
        loses=ALL,
    ),
    Case(
        "detached-head",
        11,
        "commits made on the server on a detached HEAD",
        prepare=detached_commit,
        harm=unreachable,
        loses=ALL,
    ),
    Case(
        "edits",
        11,
        "edits of the code made on the server, some of them staged",
        prepare=edited,
        harm=edit_gone,
        loses=ALL,
    ),
    Case(
        "merge-in-progress",
        11,
        "a merge in progress, half resolved",
        prepare=merging,
        harm=merge_gone,
        loses=ALL,
    ),
    Case(
        "stash",
        11,
        "edits in the stash",
        prepare=stashed,
        harm=unreachable,
    ),
    Case(
        "shallow-clone",
        12,
        "a shallow clone, cleaned up by `gc` before the rollback",
        clone=("--depth=1",),
        ways={RESET: Shallow()},
        meanwhile=collect_garbage,
        back=True,
        loses=(RESET,),
    ),
    Case(
        "hooks-as-root",
        12,
        "root deploys into the bot's checkout, whose hooks and `core.fsmonitor` run",
        prepare=hostile,
        harm=ran_as_root,
        ways={RESET: GitResetClean(trusting=True), COPY: CopyAway(trusting=True)},
        loses=(RESET,),
        owner="nobody",
        root=True,
    ),
    Case(
        "private-file-becomes-public",
        12,
        "a tracked file is 0600 on the server, and upstream changes it",
        before={SECRETS: "token: first\n"},
        prepare=private,
        push={SECRETS: "token: second\n"},
        harm=readable,
        loses=ALL,
    ),
    Case(
        "names-differ-in-case",
        12,
        "upstream adds `Data/` beside the live `data/`",
        push={"Data/readme.md": "Data.\n"},
        harm=one_for_two,
        loses=ALL,
        refuses=("Data",),
        kept=("Data/readme.md",),
    ),
    Case(
        "export-ignore",
        13,
        "files with the attribute `export-ignore`",
        before={"lib/helper.py": "VERSION = 'one'\n"},
        push={".gitattributes": "lib/helper.py export-ignore\n", "lib/helper.py": "VERSION = 'two'\n"},
        harm=helper_left_behind,
        others=(Script("git archive", "git --git-dir=$UPSTREAM archive $COMMIT | tar -x"),),
    ),
    Case(
        "lfs-pointer",
        13,
        "a model moves to LFS, and the server has no LFS",
        before={"models/model.bin": bytes(4000)},
        push={".gitattributes": "*.bin filter=lfs\n", "models/model.bin": POINTER},
        harm=pointer,
        loses=ALL,
        refuses=("models/model.bin",),
        proceeds=(),
    ),
    Case(
        "submodule",
        13,
        "upstream adds a submodule",
        push={
            ".gitignore": IGNORED,
            ".gitmodules": '[submodule "vendor/exchange"]\n\tpath = vendor/exchange\n\turl = ./nowhere\n',
            "vendor/exchange": Submodule(),
        },
        harm=hollow,
        loses=ALL,
        refuses=("vendor/exchange",),
        proceeds=(),
    ),
)
