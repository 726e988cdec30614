# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A small world for one case: an upstream repository, a server's checkout with data in it, and a bot that writes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from bot import DATABASE, DOCUMENT, LOG

TRUSTING = Path(__file__).with_name("trusting.gitconfig")
BOT = Path(__file__).with_name("bot.py")
BOTS_OWN = frozenset({LOG, DATABASE, DOCUMENT, f"{DOCUMENT}.tmp", *(f"{DATABASE}-{part}" for part in ("wal", "shm"))})


@dataclass(frozen=True)
class Link:
    """A symlink in a commit."""

    target: str


@dataclass(frozen=True)
class Program:
    """A file with its x bit."""

    text: str


@dataclass(frozen=True)
class Submodule:
    """A repository in a repository, by its commit."""

    commit: str = "1" * 40


Change = Union[str, bytes, Link, Program, Submodule, None]
Changes = Mapping[str, Change]

IGNORED = "data/\nlogs/\npaper_trading_outputs/\n*.jsonl\n*.csv\n.env\n"
FIRST: Changes = {
    ".gitignore": IGNORED,
    "README.md": "A bot.\n",
    "main.py": "print('one')\n",
    "lib/strategy.py": "EDGE = 1\n",
    "lib/latest": Link("strategy.py"),
    "bin/run": Program("#!/bin/sh\nexec python3 main.py\n"),
    "config/settings.json": '{"pairs": ["BTC"]}\n',
    "docs/old/guide.md": "Old.\n",
}
# What every second commit changes: a file each way, and an x bit.
SECOND: Changes = {
    "main.py": "print('two')\n",
    "lib/strategy.py": Program("EDGE = 2\n"),
    "lib/new/signals.py": "SIGNALS = []\n",
    "lib/latest": Link("new/signals.py"),
    "docs/old/guide.md": None,
}
# What the bot and its person have put on the server; nobody may touch it.
DATA: Mapping[str, bytes] = {
    ".env": b"API_KEY=live\n",
    "data/history/prices.csv": b"day,price\n1,100\n",
    "data/positions.json": b'{"BTC": "0.5"}\n',
    "data/.hidden": b"seed\n",
    "logs/old/2024.jsonl.gz": bytes(range(256)),
    "paper_trading_outputs/24h/trades.csv": b"id,side\n1,buy\n",
}


def git(directory: Path, *arguments: str, check: bool = True, **options: Any) -> str:
    """What git says, in a directory; with the settings of this test alone."""
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments],
        capture_output=True, text=True, check=False, env=environment(trusting=True), **options,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def environment(*, trusting: bool = False) -> dict[str, str]:
    """No settings of this machine's; an author; no questions. trusting: in anybody's repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    names = {f"GIT_{who}_{what}": "bot" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    settings = {"GIT_CONFIG_GLOBAL": str(TRUSTING) if trusting else "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    return {**kept, **names, **settings, "GIT_TERMINAL_PROMPT": "0"}


@dataclass(frozen=True)
class Seen:
    """What is known of a path without following it."""

    kind: str
    content: str
    mode: int
    owner: tuple[int, int]
    inode: tuple[int, int]


def look(root: Path, *, skip: frozenset[str] = frozenset()) -> dict[str, Seen]:
    """Everything below a directory, by its path relative to it; a bind mount is looked into, a link is not followed."""
    found: dict[str, Seen] = {}
    for place, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = Path(place) / name
            relative = str(path.relative_to(root))
            if relative in skip:
                continue
            with contextlib.suppress(FileNotFoundError):  # the bot's
                found[relative] = seen(path)
        directories[:] = [name for name in directories if str((Path(place) / name).relative_to(root)) not in skip]
    return found


def seen(path: Path) -> Seen:
    """One path."""
    facts = path.lstat()
    kind, content = "other", ""
    if stat.S_ISLNK(facts.st_mode):
        kind, content = "link", os.readlink(path)
    elif stat.S_ISDIR(facts.st_mode):
        kind = "directory"
    elif stat.S_ISREG(facts.st_mode):
        kind, content = "file", hashlib.sha256(path.read_bytes()).hexdigest()
    owner = (facts.st_uid, facts.st_gid)
    return Seen(kind, content, stat.S_IMODE(facts.st_mode), owner, (facts.st_dev, facts.st_ino))


@dataclass(frozen=True)
class Entry:
    """A file of a commit: its mode as git writes it, and its object."""

    mode: str
    object: str


class World:
    """Directories of one case, all below ``base``."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.upstream, self.live = base / "upstream.git", base / "live"
        self.state, self.disk, self.temporary = base / "state", base / "disk", base / "tmp"
        self.promises = base / "promises"
        self.first = self.second = ""
        self.bot: subprocess.Popen[bytes] | None = None
        for directory in (self.state, self.disk, self.temporary):
            directory.mkdir(parents=True)
        git(base, "init", "--quiet", "--bare", "--initial-branch=main", str(self.upstream))
        self._marks = 0

    # Upstream.

    def push(self, changes: Changes, *, branch: str = "main") -> str:
        """A commit on top of a branch, made in the bare repository itself: nothing of it need fit a work tree."""
        self._marks += 1
        stream = [f"commit refs/heads/{branch}\ncommitter bot <bot> {1700000000 + self._marks} +0000\n".encode()]
        stream.append(f"data 8\nnumber {self._marks % 10}\n".encode())
        if git(self.upstream, "rev-parse", "--quiet", "--verify", f"refs/heads/{branch}", check=False):
            stream.append(f"from refs/heads/{branch}^0\n".encode())
        # Removals first: a directory may become a file.
        for path, change in sorted(changes.items(), key=lambda item: item[1] is not None):
            stream.append(_imported(path, change))
        command = ["git", "-C", str(self.upstream), "fast-import", "--quiet", "--force"]
        subprocess.run(command, input=b"".join(stream), check=True, env=environment(trusting=True))
        return git(self.upstream, "rev-parse", f"refs/heads/{branch}")

    def tree(self, commit: str) -> dict[str, Entry]:
        """What a commit puts into the checkout."""
        # What was committed on the server is only there.
        pushed = git(self.upstream, "cat-file", "-t", commit, check=False) == "commit"
        place = self.upstream if pushed else self.live
        listed = git(place, "ls-tree", "-r", "-z", commit).rstrip("\0").split("\0")
        split = [line.partition("\t") for line in listed if line]
        return {path: Entry(facts.split()[0], facts.split()[2]) for facts, _tab, path in split}

    # The server.

    def clone(self, *options: str) -> None:
        """The server's checkout, as its person made it once."""
        git(self.base, "clone", "--quiet", *options, f"file://{self.upstream}", str(self.live))

    def put(self, files: Mapping[str, bytes]) -> None:
        """Live files; those below ``data`` are private, as data is."""
        for path, content in files.items():
            (self.live / path).parent.mkdir(parents=True, exist_ok=True)
            (self.live / path).write_bytes(content)
            (self.live / path).chmod(0o600 if path == ".env" else 0o640)

    def start_bot(self) -> None:
        """As a process of its own, until ``stop_bot``."""
        if (self.live / LOG).exists():
            held = (self.live / LOG).read_bytes()
            (self.live / LOG).write_bytes(held if held.endswith(b"\n") or not held else held + b"\n")
        command = [sys.executable, "-S", str(BOT), str(self.live), str(self.promises)]
        self.bot = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.await_rounds()

    def stop_bot(self) -> None:
        if self.bot is not None:
            self.bot.kill()
            self.bot.wait()
            self.bot = None

    def promised(self) -> dict[str, int]:
        """What the bot has written so far."""
        names = ("lines", "rows", "documents", "failures", "rounds")
        with contextlib.suppress(FileNotFoundError):
            return dict(zip(names, map(int, self.promises.read_text().split())))
        return {}

    def await_rounds(self, more: int = 3) -> None:
        """Until the bot has tried to write so many times more."""
        wanted = self.promised().get("rounds", 0) + more
        deadline = time.monotonic() + 20
        while self.promised().get("rounds", 0) < wanted:
            assert self.bot is not None
            assert self.bot.poll() is None, "the bot died"
            assert time.monotonic() < deadline, "the bot does not write"
            time.sleep(0.005)

    def close(self) -> None:
        """End the bot and take away what was mounted."""
        self.stop_bot()
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for place in reversed([place for place in mounted if place.startswith(f"{self.base}/")]):
            subprocess.run(["umount", place], check=True)
        shutil.rmtree(self.base, ignore_errors=True)


@contextlib.contextmanager
def world(base: Path) -> Iterator[World]:
    """A world that leaves nothing behind."""
    made = World(base)
    try:
        yield made
    finally:
        made.close()


def _imported(path: str, change: Change) -> bytes:
    if change is None:
        return f"D {path}\n".encode()
    if isinstance(change, Submodule):
        return f"M 160000 {change.commit} {path}\n".encode()
    mode, content = "100644", b""
    if isinstance(change, Link):
        mode, content = "120000", change.target.encode()
    elif isinstance(change, Program):
        mode, content = "100755", change.text.encode()
    else:
        content = change.encode() if isinstance(change, str) else change
    return f"M {mode} inline {path}\ndata {len(content)}\n".encode() + content + b"\n"
