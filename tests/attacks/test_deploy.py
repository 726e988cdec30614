# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bot that is taken over, and a hostile upstream, against deploys that root carries out.

The bot is a real account without rights. At the worst moment of a deploy it does what any program of its own could do;
what belongs to root must be as it was, and be nowhere else.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import grp
import hashlib
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ExitStatus,
    TradekeepError,
    UnsafePathError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import account_of
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.identity import acting_uid
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import sqlite_rows
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy import (
    carry_out,
    code_stage,
    releases,
    working_copy,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.deploy import deploy
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.request import DeployRequest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.recover import recover
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import pending
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.lock import application_lock

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to lose here")

OWNER = "nobody"
WHO = {f"GIT_{role}_{what}": "a@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
FIRST = {
    "bot.py": "print(1)\n",
    "lib/a.py": "a = 1\n",
    ".gitignore": "paper_trading_outputs/\nlogs/\n*.jsonl\n",
}
TRADES = "paper_trading_outputs/trades.jsonl"
SECRET = "root's own\n"


class Bot:
    """The account of the application, and what its programs do."""

    def __init__(self) -> None:
        entry = pwd.getpwnam(OWNER)
        self.uid, self.gid = entry.pw_uid, entry.pw_gid

    def does(self, what: Callable[[], None]) -> None:
        """Have a process of the account's do something; a bot that fails tries again some other time."""
        process = os.fork()
        if process == 0:
            status = 1
            try:
                os.setgroups([])
                os.setresgid(self.gid, self.gid, self.gid)
                os.setresuid(self.uid, self.uid, self.uid)
                what()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(process, 0)[1] == 0, "the attack itself did not work"

    def swaps(self, directory: Path, target: Path) -> None:
        """Put a symlink in the place of a directory."""

        def swap() -> None:
            directory.rename(directory.with_name(f"{directory.name}.aside"))
            directory.symlink_to(target)

        self.does(swap)


class World:
    """A repository, a bot with a checkout, and a deploy that root makes; state and backups are root's alone."""

    def __init__(self, base: Path, **settings) -> None:
        self.base = base
        self.bot = Bot()
        self.home = base / "home"
        self.upstream = base / "upstream"
        self.live = self.home / "live"
        self.victim = base / "victim"
        self.settings = {"backup_first": "none", "repository": str(self.upstream), **settings}
        for path in (self.home, self.upstream):
            path.mkdir()
            os.chown(path, self.bot.uid, self.bot.gid)
        self.victim.mkdir(mode=0o700)
        for name in ("state_dir", "backup_dir", "config_dir", "bin_dir"):
            (base / name).mkdir(mode=0o711 if name == "state_dir" else 0o700)
        self.git("init", "--quiet", "--initial-branch=main")
        self.push(FIRST)
        self.ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())

    @property
    def application(self):
        paths = {name: str(self.base / name) for name in ("state_dir", "backup_dir", "config_dir", "bin_dir")}
        root = self.settings.get("root", str(self.live))
        deploying = {key: value for key, value in self.settings.items() if key != "root"}
        profile = {"extends": "paper_bot", "deploy": deploying, "services": []}
        return resolve_application(profile, root=root, become=True, owner=OWNER, group=group_of_bot(), **paths)

    @property
    def state(self) -> Path:
        return Path(self.application.application_state_dir)

    def git(self, *arguments: str, at: Path | None = None, text: bytes | None = None) -> str:
        argv = ["setpriv", "--reuid", str(self.bot.uid), "--regid", str(self.bot.gid), "--clear-groups", "--", "git"]
        environment = {**os.environ, **WHO, "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": "/"}
        done = subprocess.run(
            [*argv, *arguments], cwd=at or self.upstream, env=environment, capture_output=True, input=text, check=True
        )
        return os.fsdecode(done.stdout).strip()

    def push(self, files: dict[str, str]) -> str:
        def write() -> None:
            for name, content in files.items():
                path = self.upstream / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")

        self.bot.does(write)
        self.git("add", "--all", "--force", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", "change")
        return self.git("rev-parse", "HEAD")

    def clone(self) -> None:
        self.git("clone", "--quiet", str(self.upstream), str(self.live), at=self.home)
        self.write({TRADES: '{"n": 1}\n', "logs/bot.log": "started\n"})

    def write(self, files: dict[str, str]) -> None:
        def write() -> None:
            for name, content in files.items():
                path = self.live / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")

        self.bot.does(write)

    def deploy(self, ref: str | None = "main", *, step=None, **fields):
        ports = self.ports if step is None else dataclasses.replace(self.ports, step=step)
        request = DeployRequest(ref=None if fields.get("rollback") else ref, **fields)
        return deploy(self.application, ports, request)

    def secret(self, name: str) -> Path:
        path = self.victim / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SECRET, encoding="utf-8")
        path.chmod(0o600)
        return path

    def exposed(self) -> list[str]:
        """What holds the secret where the bot can get at it."""
        found = []
        for parent, _names, files in os.walk(self.home):
            for name in files:
                path = Path(parent, name)
                if path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes():
                    found.append(str(path))
        return found


def group_of_bot() -> str:
    return grp.getgrgid(pwd.getpwnam(OWNER).pw_gid).gr_name


@contextlib.contextmanager
def place() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="tradekeep-attack-"))
    base.chmod(0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base)


@pytest.fixture
def world() -> Iterator[World]:
    with place() as base:
        made = World(base)
        made.clone()
        yield made
        assert acting_uid() == 0


@pytest.fixture
def released() -> Iterator[World]:
    with place() as base:
        app = base / "home/app"
        made = World(base, layout="releases", directory=str(app), root=str(app / "shared"), keep_releases=2)
        yield made
        assert acting_uid() == 0


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    """What hangs is a finding too."""

    def over(_number: int, _frame: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def once(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, attack: Callable[..., None], *, after=False
) -> list:
    """Have the attack happen once, right before a function of the engine's (or after it) is called."""
    original = getattr(owner, name)
    done: list[bool] = []

    def hooked(*arguments, **options):
        if not done and not after:
            done.append(True)
            attack(*arguments)
        answer = original(*arguments, **options)
        if not done and after:
            done.append(True)
            attack(*arguments)
        return answer

    monkeypatch.setattr(owner, name, hooked)
    return done


def refused(outcome) -> str:
    """The one line that says so."""
    assert outcome.status is ExitStatus.FAILED, outcome
    assert not outcome.changed
    assert outcome.record["state"] in ("undone", "refused")
    assert "Traceback" not in "\n".join(outcome.lines)
    return outcome.lines[0]


def stage_of(world: World) -> Path:
    return next(path for path in world.live.iterdir() if path.name.startswith(".tradekeep-stage-"))


def test_a_checkout_in_a_directory_of_roots_is_left_clean() -> None:
    """As `site` makes it for data in the code's home: the stage that root made for the owner goes away again."""
    with place() as base:
        world = World(base)
        world.live.mkdir(mode=0o755)
        for n in range(2):
            world.push({"bot.py": f"print({n})\n"})
            assert world.deploy().status == ExitStatus.DONE
            assert (world.live / "bot.py").read_text() == f"print({n})\n"
            assert not list(world.live.glob(".tradekeep-stage*"))
            assert pending(world.state) is None
        assert world.live.stat().st_uid == 0


def test_a_stage_that_is_swapped_brings_nothing_into_roots_directories(world, monkeypatch) -> None:
    world.push({"zz-evil.sh": "touch /root/was-here\n"})

    def attack(*_arguments) -> None:
        def swap() -> None:
            stage = stage_of(world)
            stage.rename(world.live / "aside")
            stage.mkdir()
            (stage / "kept").mkdir()
            (stage / "new").symlink_to(world.victim)

        world.bot.does(swap)

    done = once(monkeypatch, code_stage.CodeStage, "_copy_file", attack)
    outcome = world.deploy()
    assert done
    assert os.listdir(world.victim) == []
    assert "permission denied" in refused(outcome)


def test_a_stage_that_becomes_a_symlink_gives_root_nothing_to_rename(world, monkeypatch) -> None:
    """After the stage is filled, and before it is exchanged."""
    world.push({"bot.py": "print(2)\n"})
    (world.victim / "new").mkdir()
    (world.victim / "kept").mkdir()
    world.secret("new/bot.py")

    def step(name: str) -> None:
        if name == "prepared":
            world.bot.swaps(stage_of(world), world.victim)

    with contextlib.suppress(TradekeepError):
        world.deploy(step=step)
    assert (world.victim / "new/bot.py").read_text() == SECRET
    assert os.listdir(world.victim / "kept") == []
    assert world.exposed() == []


PYTHON = """#!/bin/sh
case "$*" in *"-m venv "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;; *) echo 3.11 ;; esac
"""


@pytest.mark.parametrize("swapped", [False, True])
def test_an_environment_is_adopted_with_the_owners_rights_alone(world, swapped) -> None:
    """What makes way is kept beside the others; where that directory leads elsewhere by then, root moves nothing."""
    python = world.base / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    world.settings["dependencies"] = {"python": str(python)}
    world.push({"requirements.txt": ""})
    world.write({"venv/bin/python": "by hand\n"})
    environments = world.live / ".tradekeep-venvs"

    def step(name: str) -> None:
        if name == "stand" and swapped:
            world.bot.swaps(environments, world.victim)

    outcome = world.deploy(adopt=True, step=step)
    assert outcome.record["state"] == "deployed", outcome.lines
    assert list(world.victim.iterdir()) == []
    if swapped:
        assert outcome.record["set_aside"] == []
        return
    (kept,) = outcome.record["set_aside"]
    assert (Path(kept) / "bin/python").read_text() == "by hand\n"
    assert {path.lstat().st_uid for path in world.live.rglob("*")} == {world.bot.uid}


def test_releases_that_are_swapped_cost_root_no_directory(released, monkeypatch) -> None:
    for number in range(3):
        released.push({"bot.py": f"print({number})\n"})
        assert released.deploy().record["state"] == "deployed"
    base = released.home / "app"
    names = [name for name in os.listdir(base / "releases") if not name.startswith(".")]
    assert len(names) == 2
    for name in names:
        released.secret(f"{name}/valuable")
        shutil.copy2(base / "releases" / name / releases.MARKER, released.victim / name)
    released.victim.chmod(0o755)

    def attack(*_arguments) -> None:
        released.bot.swaps(base / "releases", released.victim)

    released.push({"bot.py": "print(4)\n"})
    done = once(monkeypatch, releases, "_written_here", attack, after=True)
    outcome = released.deploy()
    assert done
    for name in names:
        assert (released.victim / name / "valuable").read_text() == SECRET
    assert outcome.record["state"] == "deployed"
    assert any("permission denied" in line for line in outcome.lines)


def test_releases_that_are_a_symlink_are_refused_by_name(released, monkeypatch) -> None:
    for number in range(3):
        released.push({"bot.py": f"print({number})\n"})
        released.deploy()
    base = released.home / "app"
    released.victim.chmod(0o755)
    (released.victim / "one").mkdir()
    layout = releases.Releases(released.application, account_of(OWNER))
    released.bot.swaps(base / "releases", released.victim)
    with pytest.raises(UnsafePathError, match="symlink"):
        layout.tidy(0)
    assert (released.victim / "one").is_dir()


def test_an_export_that_is_swapped_shows_none_of_roots_files(world, monkeypatch) -> None:
    world.push({"lib/a.py": "a = 2\n"})
    world.secret("a.py")

    def attack(*_arguments) -> None:
        export = next((world.base / "state_dir/mirrors").glob(".tradekeep-export-*"))
        world.bot.swaps(export / "lib", world.victim)

    done = once(monkeypatch, code_stage.CodeStage, "_copy_file", attack)
    outcome = world.deploy()
    assert done
    assert world.exposed() == []
    assert "symlink" in refused(outcome)
    assert (world.live / "lib/a.py").read_text() == "a = 1\n"


def test_a_file_of_the_export_that_is_a_link_to_roots_is_not_copied(world, monkeypatch) -> None:
    """A symlink as the last name, and a directory above it, for a symlink of the commit's."""
    world.push({"lib/a.py": "a = 2\n"})
    secret = world.secret("a.py")

    def attack(*_arguments) -> None:
        def swap() -> None:
            file = next((world.base / "state_dir/mirrors").glob(".tradekeep-export-*")) / "lib/a.py"
            file.unlink()
            file.symlink_to(secret)

        world.bot.does(swap)

    once(monkeypatch, code_stage.CodeStage, "_copy_file", attack)
    assert "symlink" in refused(world.deploy())
    assert world.exposed() == []


def test_a_directory_that_is_exchanged_all_the_time_leads_root_nowhere(world) -> None:
    """By renameat2(RENAME_EXCHANGE), so that there is always one of the two."""
    world.secret("a.py")
    world.victim.chmod(0o755)
    for name in ("b.py", "c.py"):
        (world.victim / name).write_text("root's\n", encoding="utf-8")
    before = {path.name: (path.lstat(), path.read_bytes()) for path in world.victim.iterdir()}
    world.bot.does(lambda: (world.live / "other").symlink_to(world.victim))
    exchanging = os.fork()
    if exchanging == 0:
        try:
            os.setgroups([])
            os.setresgid(world.bot.gid, world.bot.gid, world.bot.gid)
            os.setresuid(world.bot.uid, world.bot.uid, world.bot.uid)
            system = ctypes.CDLL(None)
            paths = [os.fsencode(world.live / name) for name in ("lib", "other")]
            while os.getppid() != 1:
                system.renameat2(-100, paths[0], -100, paths[1], 2)
        finally:
            os._exit(0)
    try:
        for number in range(6):
            world.push({"lib/a.py": f"a = {number}\n", "lib/b.py": f"b = {number}\n", f"lib/n{number}.py": "\n"})
            with contextlib.suppress(TradekeepError):
                world.deploy()
    finally:
        os.kill(exchanging, signal.SIGKILL)
        os.waitpid(exchanging, 0)
    after = {path.name: (path.lstat(), path.read_bytes()) for path in world.victim.iterdir()}
    assert {name: content for name, (_status, content) in after.items()} == {
        name: content for name, (_status, content) in before.items()
    }
    assert [after[name][0][:6] for name in before] == [before[name][0][:6] for name in before]
    assert world.exposed() == []
    assert recover(world.application, world.ports).status is ExitStatus.DONE


def test_an_upstream_with_a_path_beneath_its_own_symlink_gets_none_of_roots_files(world) -> None:
    """A tree that has ``etc`` twice: as a symlink, and as a directory."""
    secret = world.secret("shadow")
    blob = world.git("hash-object", "-w", "--stdin", text=b"theirs\n")
    link = world.git("hash-object", "-w", "--stdin", text=os.fsencode(world.victim))
    inner = world.git("mktree", text=f"100644 blob {blob}\tshadow\n".encode())
    rows = b"120000 %s\0" % b"etc" + bytes.fromhex(link) + b"40000 etc\0" + bytes.fromhex(inner)
    outer = world.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", text=rows)
    commit = world.git("commit-tree", "-p", "HEAD", "-m", "hostile", outer)
    world.git("update-ref", "refs/heads/main", commit)
    try:
        outcome = world.deploy()
    except TradekeepError as error:
        assert error.exit_status in (ExitStatus.FAILED, ExitStatus.FINDINGS)
    else:
        assert outcome.status is ExitStatus.FAILED, outcome
    assert world.exposed() == []
    assert secret.read_text() == SECRET


def test_a_made_up_index_leads_root_nowhere(world, monkeypatch) -> None:
    temporary = world.base / "temporary"
    temporary.mkdir(mode=0o711)
    victim = temporary / "victim"
    victim.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    blob = world.git("hash-object", "-w", "--stdin", text=b"*\n", at=world.live)
    world.git("update-index", "--add", "--cacheinfo", f"100644,{blob},zz/victim/.gitignore", at=world.live)

    def patch() -> None:
        index = world.live / ".git/index"
        content = index.read_bytes()[:-20].replace(b"zz/victim/.gitignore", b"../victim/.gitignore"[:20])
        index.write_bytes(content + hashlib.sha1(content).digest())

    world.bot.does(patch)
    assert "../victim/.gitignore"[:20] in world.git("ls-files", at=world.live)
    for ask in (
        lambda: working_copy.tracked_data(world.application, world.ports),
        lambda: working_copy.gitignore(world.application, world.ports, path=str(world.live)),
    ):
        with pytest.raises(UnsafePathError, match="leads out of its root"):
            ask()
        assert victim.stat().st_mode & 0o777 == 0o700
        assert os.listdir(victim) == []


def test_rules_are_not_written_into_a_directory_that_was_swapped(world, monkeypatch) -> None:
    world.victim.chmod(0o755)

    def attack(*_arguments, **_options) -> None:
        world.bot.swaps(world.live, world.victim)

    done = once(monkeypatch, working_copy, "atomic_write", attack)
    with pytest.raises(TradekeepError, match=r"permission denied|symlink"):
        working_copy.gitignore(world.application, world.ports, path=str(world.live))
    assert done
    assert os.listdir(world.victim) == []


def test_a_working_copy_behind_a_symlink_of_the_bots_is_not_taken_for_roots(world) -> None:
    """Git would run as whoever the directory belongs to."""
    world.bot.does(lambda: (world.home / "link").symlink_to(world.victim))
    with pytest.raises(UnsafePathError, match="symlink"):
        working_copy.tracked_data(world.application, world.ports, path=str(world.home / "link"))


def test_databases_are_read_with_the_owners_rights(world, monkeypatch) -> None:
    """What reads them may have a fault, and they are the bot's to write."""
    seen = world.base / "seen"
    seen.mkdir(mode=0o777)
    seen.chmod(0o777)

    def make() -> None:
        with contextlib.closing(sqlite3.connect(world.live / "paper_trading_outputs/fills.db")) as database:
            database.execute("create table fills(id)")
            database.execute("insert into fills values (1)")
            database.commit()

    world.bot.does(make)

    def attack(*_arguments) -> None:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        capabilities = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
        (seen / str(os.getpid())).write_text(f"{os.getuid()} {os.geteuid()} {int(capabilities, 16)}", encoding="ascii")

    once(monkeypatch, sqlite_rows, "open_source", attack)
    world.push({"bot.py": "print(2)\n"})
    outcome = world.deploy()
    assert outcome.record["state"] == "deployed"
    found = {path.read_text(encoding="ascii") for path in seen.iterdir()}
    assert found == {f"{world.bot.uid} {world.bot.uid} 0"}


@pytest.mark.parametrize("suffix", ["-journal", "-wal"])
def test_a_fifo_beside_a_database_holds_no_deploy(world, suffix: str) -> None:
    """The proof of the data counts its rows, and SQLite would wait for the FIFO for ever."""
    data = world.live / "paper_trading_outputs"

    def make() -> None:
        with contextlib.closing(sqlite3.connect(data / "fills.db")) as database:
            database.execute("create table fills(id)")
            database.execute("insert into fills values (1)")
            database.commit()
        os.mkfifo(data / f"fills.db{suffix}")

    world.bot.does(make)
    world.push({"bot.py": "print(2)\n"})
    begun = time.monotonic()
    outcome = world.deploy()
    assert time.monotonic() - begun < 120
    assert "Traceback" not in "\n".join(outcome.lines)
    assert outcome.record["state"] == "deployed", outcome.lines
    with application_lock(world.state, operation="test", clock=SystemClock()):
        pass  # it is free


@pytest.mark.parametrize("by", ["a FIFO", "a file that nobody can read"])
def test_what_is_kept_aside_cannot_make_root_wait(world, monkeypatch, by: str) -> None:
    """An edited file is copied to root's records; by then it can be a FIFO, or a symlink to anything."""
    world.write({"bot.py": "print('edited')\n"})
    world.push({"bot.py": "print(2)\n"})
    signal.alarm(60)

    def attack(_run, _path, aside: Path) -> None:
        def swap() -> None:
            stage = aside.parent.parent
            stage.rename(stage.with_name("aside"))
            aside.parent.mkdir(parents=True)
            if by == "a FIFO":
                os.mkfifo(aside)
            else:
                aside.touch(mode=0)

        world.bot.does(swap)

    done = once(monkeypatch, carry_out.DeployRun, "_is_foreign", attack, after=by == "a FIFO")
    outcome = world.deploy()
    assert done
    assert outcome.record["state"] == "deployed"
    said = "is not a regular file" if by == "a FIFO" else "permission denied"
    assert any("bot.py: the edit was not kept aside" in line and said in line for line in outcome.lines)


def test_a_checkout_is_not_made_where_the_bot_can_exchange_it(world) -> None:
    """A directory of root's, in the place of the new one by the time that it is given away."""
    shutil.rmtree(world.live)
    inside = world.home / "code"
    world.settings["directory"] = str(inside)
    outcome = world.deploy()
    assert outcome.record["state"] == "deployed"
    assert inside.stat().st_uid == world.bot.uid
    shutil.rmtree(inside)
    shutil.rmtree(world.state)
    world.home.chmod(0o555)
    assert "others can change the directory above it" in refused(world.deploy())
    assert not inside.exists()


# ---- the same deploys, without an attack: nothing of root's is missing where it is needed


@pytest.mark.parametrize("backup", ["none", "critical", "all"])
def test_a_checkout_of_an_account_is_deployed_and_rolled_back(world, backup: str) -> None:
    world.settings["backup_first"] = backup
    first = world.deploy()
    assert first.status is ExitStatus.DONE, first.lines
    world.write({"lib/a.py": "a = 'edited'\n"})
    world.push({"bot.py": "print(2)\n", "lib/a.py": "a = 2\n", "new/deep/c.py": "c = 1\n"})
    outcome = world.deploy()
    assert outcome.status is ExitStatus.DONE, outcome.lines
    assert outcome.record["quarantined"] == ["lib/a.py"]
    assert (world.live / "new/deep/c.py").read_text() == "c = 1\n"
    back = world.deploy(rollback=True)
    assert back.record["state"] == "rolled_back"
    assert not (world.live / "new").exists()
    assert (world.live / TRADES).read_text() == '{"n": 1}\n'
    owners = {path.lstat().st_uid for path in world.live.rglob("*")}
    assert owners == {world.bot.uid}
    assert not [path for path in world.live.iterdir() if path.name.startswith(".tradekeep-stage-")]
    # Others may pass through, to their own scratch directories.
    assert world.state.stat().st_mode & 0o777 in (0o700, 0o711)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (world.base / "backup_dir").rglob("*"))


def test_a_deploy_of_an_account_has_all_that_it_needs(world) -> None:
    """Hooks and their logs, health, a database, work that only the checkout has, and a plan before."""
    world.settings["hooks"] = [
        {"at": at, "command": ["id", "-u"]} for at in ("before_fetch", "after_stop", "after_commit")
    ]
    world.settings["health"] = [{"command": ["test", "-w", "logs/bot.log"]}]

    def work() -> None:
        with contextlib.closing(sqlite3.connect(world.live / "paper_trading_outputs/fills.db")) as database:
            database.execute("pragma journal_mode=wal")
            database.execute("create table fills(id)")
            database.execute("insert into fills values (1)")
            database.commit()
        (world.live / "bot.py").write_text("print('edited')\n", encoding="utf-8")

    world.bot.does(work)
    os.mkdir(world.live / "roots", mode=0o700)
    world.git("commit", "--quiet", "--allow-empty", "--message", "only here", at=world.live)
    world.push({"bot.py": "print(2)\n", "link": "target\n"})
    planned = deploy(world.application, world.ports, DeployRequest(ref="main"), dry_run=True)
    assert planned.record["state"] == "planned", planned.lines
    outcome = world.deploy()
    assert outcome.status is ExitStatus.DONE, outcome.lines
    record = outcome.record
    assert [hook["last_line"] for hook in record["hooks"]] == [str(world.bot.uid)] * 3
    assert all(Path(hook["log"]).stat().st_uid == 0 for hook in record["hooks"])
    assert record["proof"]["verdict"] == "preserved"
    assert "edited" in Path(record["rescued"]["differences"]).read_text(encoding="utf-8")
    assert record["quarantined"] == ["bot.py"]
    assert any(f"{world.live}/roots: not to be read by {OWNER}" in note for note in record["notes"])
    assert world.git("status", "--porcelain", at=world.live) == ""


@pytest.mark.parametrize("backup", ["none", "critical"])
def test_releases_of_an_account_are_deployed_and_rolled_back(released, backup: str) -> None:
    released.settings["backup_first"] = backup
    for number in range(4):
        released.push({"bot.py": f"print({number})\n"})
        outcome = released.deploy()
        assert outcome.status is ExitStatus.DONE, outcome.lines
    base = released.home / "app"
    assert (base / "current/bot.py").read_text() == "print(3)\n"
    assert len([name for name in os.listdir(base / "releases") if not name.startswith(".")]) == 2
    back = released.deploy(rollback=True)
    assert back.record["state"] == "rolled_back", back.lines
    assert (base / "current/bot.py").read_text() == "print(2)\n"
    assert {path.lstat().st_uid for path in base.rglob("*")} == {released.bot.uid}


@pytest.mark.parametrize("moment", ["staged", "prepared", "exchanged", "start", "stand", "clean"])
def test_a_deploy_of_an_account_that_was_cut_off_is_recovered(world, moment: str) -> None:
    world.deploy()
    world.push({"bot.py": "print(2)\n"})

    def die(name: str) -> None:
        if name == moment:
            os._exit(9)

    process = os.fork()
    if process == 0:
        try:
            world.deploy(step=die)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    outcome = recover(world.application, world.ports)
    assert outcome.status is ExitStatus.DONE, outcome
    stands = moment == "clean"
    assert (world.live / "bot.py").read_text() == ("print(2)\n" if stands else "print(1)\n")
    assert not [path for path in world.live.iterdir() if path.name.startswith(".tradekeep-")]
    assert world.deploy().status is ExitStatus.DONE


def test_a_file_of_another_account_becomes_the_owners(world) -> None:
    """Root gives away nothing that the bot could have put there in its place, and says so."""
    world.deploy()
    os.chown(world.live / "bot.py", 0, 0)
    os.chmod(world.live / "bot.py", 0o644)
    world.push({"bot.py": "print(2)\n"})
    outcome = world.deploy()
    assert outcome.status is ExitStatus.DONE, outcome.lines
    assert (world.live / "bot.py").lstat().st_uid == world.bot.uid
    assert any("bot.py: belonged to root:root" in line for line in outcome.lines)


def test_a_directory_that_the_owner_cannot_read_makes_way_for_nothing(world) -> None:
    """To the owner it looks empty; upstream wants a file where the directory above it lies."""
    world.push({"place/code.py": "a = 1\n"})
    assert world.deploy().status is ExitStatus.DONE
    (world.live / "place/roots").mkdir(mode=0o700)
    (world.live / "place/roots/file").write_text("root's\n", encoding="utf-8")
    world.git("rm", "--quiet", "-r", "place")
    world.push({"place": "a file\n"})
    outcome = world.deploy()
    assert outcome.status is ExitStatus.FAILED
    assert any("holds place/roots" in line for line in outcome.lines), outcome.lines
    assert (world.live / "place/roots/file").read_text(encoding="utf-8") == "root's\n"
