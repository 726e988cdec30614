# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""HAZARDS D 6 to 10: where the data lies, what stands in the way of git, copies, and files that are open."""

from __future__ import annotations

import os
import shutil
import subprocess

from bot import DATABASE, LOG
from cases import Case
from deployers import CopyAway, GitResetClean, Script
from judging import Damage, mixed, said_somewhere
from world import IGNORED, World, git

RESET, ANSIBLE, COPY = "reset and clean", "ansible.builtin.git", "copy away and back"
ALL = (RESET, ANSIBLE)
SETTINGS = "config/settings.json"
# Small in the repository, large in a work tree; not zeros, of which git makes holes.
WEIGHTS = b"weights\n" * (5 << 17)
EDITED = '{"pairs": ["BTC"], "edited": "on the server"}\n'


def deeper(flags: str) -> dict[str, GitResetClean | CopyAway]:
    """The known ways with a more thorough ``git clean``."""
    return {RESET: GitResetClean(flags), COPY: CopyAway(flags)}


def data_on_another_disk(world: World) -> None:
    shutil.move(world.live / "data", world.disk / "data")
    (world.live / "data").symlink_to(world.disk / "data")


def data_mounted(world: World) -> None:
    shutil.move(world.live / "data", world.disk / "data")
    (world.live / "data").mkdir()
    subprocess.run(["mount", "--bind", world.disk / "data", world.live / "data"], check=True)


def nested_repository(world: World) -> None:
    git(world.base, "init", "--quiet", "--initial-branch=main", str(world.live / "data/research"))
    git(world.base, "init", "--quiet", "--initial-branch=main", str(world.live / "notebooks"))
    for place in ("data/research", "notebooks"):
        (world.live / place / "study.md").write_text("months of work\n")
        git(world.live / place, "add", "study.md")
        git(world.live / place, "commit", "--quiet", "-m", "Study")


def skip_worktree(world: World) -> None:
    git(world.live, "update-index", "--skip-worktree", SETTINGS)
    (world.live / SETTINGS).write_text(EDITED)


def sparse(world: World) -> None:
    """Somebody has excluded a tracked directory, so that git leaves the server's files of the same names alone."""
    git(world.live, "sparse-checkout", "set", "--no-cone", "/*", "!/models/")
    world.put({"models/weights.bin": b"trained on the server"})


def weights_gone(world: World) -> list[Damage]:
    text = b"trained on the server"
    live = world.live / "models/weights.bin"
    kept = (live.exists() and text in live.read_bytes()) or said_somewhere(world.state, text)
    return [] if kept else [Damage("models/weights.bin", "deleted")]


def edits_gone(world: World) -> list[Damage]:
    """Edits may give way to the commit, but somewhere they must be."""
    live = world.live / SETTINGS
    kept = (live.exists() and EDITED in live.read_text()) or said_somewhere(world.state, EDITED.encode())
    return [] if kept else [Damage(SETTINGS, "edits lost")]


def mixture(world: World) -> list[Damage]:
    return [Damage("the code", "is a mixture of two commits")] if mixed(world) else []


def stale_lock(world: World) -> None:
    (world.live / ".git/index.lock").touch()


def failing_filter(world: World) -> None:
    """As with LFS when its server does not answer. In tradekeep's mirror too, which is where it exports from."""
    mirror = world.state / "mirrors" / "bot.git"
    git(world.base, "init", "--quiet", "--bare", str(mirror))
    for place in (world.live, mirror):
        for key, value in (("smudge", "false"), ("clean", "cat"), ("required", "true")):
            git(place, "config", f"filter.strict.{key}", value)
    git(mirror, "config", "uploadpack.allowAnySHA1InWant", "true")
    mirror.chmod(0o700)


def small_checkout(world: World) -> None:
    """The checkout moves to a disk of its own that is nearly full."""
    image = world.base / "image"
    with image.open("wb") as stream:
        stream.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(image)], check=True)
    aside = world.base / "aside"
    world.live.rename(aside)
    world.live.mkdir()
    subprocess.run(["mount", "-o", "loop", image, world.live], check=True)
    (world.live / "lost+found").rmdir()
    shutil.copytree(aside, world.live, symlinks=True, dirs_exist_ok=True)
    with (world.live / "data/history/filler.bin").open("wb") as stream:
        free = os.statvfs(world.live)
        os.posix_fallocate(stream.fileno(), 0, free.f_bavail * free.f_frsize - (2500 << 10))


def small_temporary(world: World) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", world.temporary], check=True)
    (world.live / "data/history/candles.bin").write_bytes(os.urandom(200_000))


def failed_run(world: World) -> None:
    """An earlier deploy died with the data away; since then its person has revoked a key."""
    shutil.copytree(world.live / "data", world.temporary / "vm_data_backup/data")
    (world.temporary / "vm_data_backup/data/revoked.json").write_text("{}")


def resurrected(world: World) -> list[Damage]:
    back = list((world.live / "data").rglob("revoked.json"))
    return [Damage("data/revoked.json", "is back although it was deleted")] if back else []


CASES = (
    Case(
        "data-is-a-symlink",
        6,
        "`data` is a symlink to another disk (and `data/` in `.gitignore` is no symlink)",
        prepare=data_on_another_disk,
        precious=("data",),
        loses=(RESET,),
        others=(Script("rm -rf data/ (of a deploy script)", "rm -rf data/"),),
    ),
    Case(
        "upstream-tracks-into-a-symlink",
        6,
        "upstream adds `data/README.md`; `data` is a symlink to another disk",
        prepare=data_on_another_disk,
        push={"data/README.md": "What lies here.\n"},
        precious=("data",),
        loses=ALL,
        refuses=("data",),
        kept=("data/README.md",),
    ),
    Case(
        "data-is-mounted",
        6,
        "`data` is a bind mount; `git clean -ffdx`",
        prepare=data_mounted,
        loses=(RESET,),
        ways=deeper("-ffdx"),
        root=True,
    ),
    Case(
        "nested-repositories",
        7,
        "repositories of their own inside of the checkout; `git clean -ffd`",
        prepare=nested_repository,
        loses=(RESET,),
        ways=deeper("-ffd"),
    ),
    Case(
        "skip-worktree",
        7,
        "settings edited on the server and protected by `skip-worktree`; upstream changes them",
        prepare=skip_worktree,
        push={SETTINGS: '{"pairs": ["ETH"]}\n'},
        harm=edits_gone,
        others=(Script("git pull", "git pull --ff-only origin main"),),
    ),
    Case(
        "sparse-checkout",
        7,
        "sparse-checkout as a protection of files that are tracked",
        before={"models/weights.bin": "the first"},
        prepare=sparse,
        push={"models/weights.bin": "the second"},
        harm=weights_gone,
        loses=ALL,
    ),
    Case(
        "index-lock-left-over",
        8,
        "`index.lock` is left over: `reset` fails, `clean` goes on with the old rules",
        live={"exports/report.txt": b"for the tax office\n"},
        prepare=stale_lock,
        push={".gitignore": IGNORED + "exports/\n"},
        loses=(RESET,),
    ),
    Case(
        "failing-filter",
        8,
        "a filter (as of LFS) fails: half of the files are new while HEAD says old",
        prepare=failing_filter,
        push={".gitattributes": "zoo/** filter=strict\n", "zoo/model.bin": "m", "aaa.py": "new\n"},
        harm=mixture,
        loses=ALL,
        refuses=("zoo/model.bin",),
        planned=False,
        proceeds=(),
    ),
    Case(
        "disk-full",
        8,
        "the disk fills up half way",
        prepare=small_checkout,
        push={"aaa.py": "new\n", "models/one.bin": WEIGHTS[: 1 << 20], "models/two.bin": WEIGHTS},
        harm=mixture,
        loses=ALL,
        refuses=("live",),
        proceeds=(),
        root=True,
    ),
    Case(
        "temporary-place-too-small",
        9,
        "the temporary place for the data is too small, and errors are masked",
        prepare=small_temporary,
        root=True,
    ),
    Case(
        "left-over-from-a-failed-run",
        9,
        "an earlier run died with the data away",
        prepare=failed_run,
        harm=resurrected,
    ),
    Case(
        "written-in-between",
        9,
        "nothing unusual; the bot writes",
    ),
    Case(
        "tracked-log-is-open",
        10,
        "the live log is tracked by mistake, and upstream changes it while the bot has it open",
        before={LOG: '{"line": 0}\n'},
        push={LOG: '{"line": 0}\n{"line": 0}\n'},
        precious=(LOG,),
        loses=ALL,
        refuses=(LOG,),
        kept=(LOG,),
    ),
    Case(
        "tracked-database-is-open",
        10,
        "the live database is tracked by mistake, and upstream removes it while the bot has it open",
        before={DATABASE: b""},
        push={DATABASE: None},
        precious=(DATABASE,),
        loses=ALL,
        kept=(DATABASE,),
    ),
)
