# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a killed process leaves goes with the next run: no decrypted file and no copy of a database stays for ever."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import encryption
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import Account
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem import scratch
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds import sqlite
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.databases import check_databases
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.leftovers import sweep_state
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.verify import verify
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

FILLS = "databases/accounts/kalshi/demo/fills.db"
PORTS = Ports(SubprocessRunner(), SystemClock(), NoProgress(), workers=True)
BOT = Account(name="#61234", uid=61234, gid=61234, home="/")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be two accounts")


@pytest.fixture
def application(tmp_path):
    places = {name: str(tmp_path / name) for name in ("root", "backup_dir", "state_dir", "config_dir", "bin_dir")}
    made = resolve_application("kalshi", become=False, **places)
    tree(made, PORTS, fix=True)
    target = Path(made.root) / FILLS
    target.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(target)
    connection.execute("CREATE TABLE fills (id INTEGER PRIMARY KEY, trade_id TEXT)")
    connection.executemany("INSERT INTO fills (trade_id) VALUES (?)", [(f"t{n}",) for n in range(100)])
    connection.commit()
    connection.close()
    backup(made, PORTS)
    return made


def left_in(application) -> list[str]:
    state = Path(application.application_state_dir)
    return sorted(str(path) for path in state.rglob(".tradekeep-*") if not path.name.startswith(".tradekeep-write-"))


def killed_while_it_checks(work) -> None:
    """The first process dies by SIGKILL as soon as a database is opened in the scratch directory."""
    child = os.fork()
    if child == 0:
        first = os.getpid()

        def die(*_arguments):
            os.kill(first, signal.SIGKILL)
            time.sleep(60)

        sqlite._examine = die  # type: ignore[assignment]
        try:
            work()
        finally:
            os._exit(1)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def works(application):
    return {
        "verify": lambda: verify(application, PORTS, reference="latest", deep=True),
        "check": lambda: check_databases(application, PORTS),
        "drill": lambda: drill(application, PORTS),
    }


@pytest.mark.parametrize("name", ["verify", "check", "drill"])
def test_what_a_killed_run_left_goes_with_the_next_one(application, name):
    killed_while_it_checks(works(application)[name])
    assert len(left_in(application)) >= 1
    assert any(path.is_file() for place in left_in(application) for path in Path(place).rglob("*")), "a copy was left"
    works(application)[name]()
    assert left_in(application) == []


def test_a_number_that_another_process_has_by_now_keeps_nothing(application):
    state = Path(application.application_state_dir)
    left = state / f".tradekeep-verify-{os.getpid()}-0123456789abcdef"
    left.mkdir()
    (left / "copy.db").write_text("secret")
    assert left.name in sweep_state(application)
    assert not left.exists()


def test_what_earlier_versions_left_without_a_number_goes_after_a_day(application, monkeypatch):
    state = Path(application.application_state_dir)
    for name in (".tradekeep-verify-abcd_1z9", ".tradekeep-check-12345678", f".tradekeep-compare-{2**22 + 1}-abc"):
        (state / name).mkdir()
    assert sweep_state(application) == (f".tradekeep-compare-{2**22 + 1}-abc",)
    now = time.time()
    monkeypatch.setattr(scratch.time, "time", lambda: now + 25 * 3600)
    assert sweep_state(application) == (".tradekeep-check-12345678", ".tradekeep-verify-abcd_1z9")


def test_a_place_that_is_used_is_left_alone(tmp_path):
    with scratch.scratch_directory(tmp_path, "test") as place:
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert scratch.sweep(tmp_path) == ()
        (place / "x").write_text("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(subprocess.call(["which", "gpg"], stdout=subprocess.DEVNULL) != 0, reason="gpg is not installed")
def test_a_killed_runs_gpg_home_goes_with_the_next_one(monkeypatch):
    place = Path(tempfile.mkdtemp(prefix="tk-"))  # gpg's agent wants a short path
    monkeypatch.setattr(encryption, "_places", lambda: (str(place),))
    child = os.fork()
    if child == 0:
        with encryption.temporary_home(PORTS.runner) as home:
            (Path(home) / "private-key").write_text("secret")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(place.iterdir())) == 1
    with encryption.temporary_home(PORTS.runner) as home:
        assert [str(path) for path in place.iterdir()] == [home]
    assert list(place.iterdir()) == []
    place.rmdir()


# Directories of an account that may be taken over


@pytest.fixture
def shared(base):
    return scratch.shared_place(base / "state", BOT)


def as_the_bot(work) -> int:
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(BOT.gid, BOT.gid, BOT.gid)
            os.setresuid(BOT.uid, BOT.uid, BOT.uid)
            os._exit(work() or 0)
        except PermissionError:
            os._exit(13)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@as_root
def test_nobody_can_list_or_enter_what_another_account_has_there(shared):
    other = Account(name="#61235", uid=61235, gid=61235, home="/")
    with scratch.scratch_directory(shared, "test", account=other) as place:
        assert (place.stat().st_uid, stat.S_IMODE(place.stat().st_mode)) == (other.uid, 0o700)
        assert as_the_bot(lambda: os.listdir(shared)) == 13
        assert as_the_bot(lambda: os.listdir(place)) == 13
        assert as_the_bot(lambda: os.rename(place, f"{place}-mine")) == 13
        assert as_the_bot(lambda: os.listdir(shared.parent)) == 13
    assert list(shared.iterdir()) == []


@as_root
def test_a_directory_that_the_account_moved_in_is_not_emptied_with_roots_rights(shared, base):
    """Root's files in a directory of the bot's: the bot can move that directory, and cannot remove them."""
    its_own = base / "its own"
    (its_own / "roots").mkdir(parents=True)
    (its_own / "roots" / "treasure").write_text("treasure")
    os.chown(its_own, BOT.uid, BOT.gid)
    its_own.chmod(0o700)
    base.chmod(0o777)
    with scratch.scratch_directory(shared, "test", account=BOT) as place:
        assert as_the_bot(lambda: os.rename(its_own, place / "x")) == 0
    scratch.sweep(shared)
    assert [path.read_text() for path in shared.rglob("treasure")] == ["treasure"]


@as_root
def test_a_symlink_in_its_place_leads_nowhere(shared, base):
    treasure = base / "treasure"
    treasure.mkdir(mode=0o755)
    (treasure / "x").write_text("x")
    with scratch.scratch_directory(shared, "test", account=BOT) as place:
        assert as_the_bot(lambda: (os.rename(place, shared / "away"), os.symlink(treasure, place))[1]) == 0
    assert (treasure / "x").exists()
    assert scratch.sweep(shared) == ()
    assert (treasure / "x").exists()


@as_root
def test_very_deep_directories_are_removed(shared):
    def dig():
        for _level in range(3000):
            os.mkdir("d", 0o500)
            os.chmod("d", 0o700)
            os.chdir("d")
        os.chmod(".", 0o000)

    with scratch.scratch_directory(shared, "test", account=BOT) as place:
        assert as_the_bot(lambda: (os.chdir(place), dig())[1]) == 0
    assert list(shared.iterdir()) == []


@as_root
def test_what_was_made_for_an_account_goes_without_rights_to_override_permissions(shared):
    """Units that verify have CAP_SETUID and CAP_SETGID, and nothing that overrides permissions."""
    text = (
        "import sys\n"
        "from pathlib import Path\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import Account\n"
        "from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem import scratch\n"
        f"bot = Account(name='#61234', uid={BOT.uid}, gid={BOT.gid}, home='/')\n"
        f"with scratch.scratch_directory({str(shared)!r}, 'test', account=bot) as place:\n"
        "    try:\n"
        "        (place / 'x').write_text('x')\n"
        "        sys.exit('permissions were overridden')\n"
        "    except PermissionError:\n"
        "        pass\n"
        f"print(scratch.sweep({str(shared)!r}))\n"
    )
    left = shared / ".tradekeep-test-1-0123456789abcdef"
    left.mkdir(mode=0o700)
    (left / "x").write_text("x")
    for path in (left, left / "x"):
        os.chown(path, BOT.uid, BOT.gid)
    kept = "-all,+setuid,+setgid"
    argv = ["setpriv", f"--bounding-set={kept}", f"--inh-caps={kept}", sys.executable, "-B", "-c", text]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout == f"('{left.name}',)\n", done.stderr
    assert list(shared.iterdir()) == []


@as_root
def test_a_place_that_the_owner_cannot_reach_is_named(base):
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(TradekeepError, match="cannot be reached") as caught:
        scratch.shared_place(closed / "state", BOT)
    assert "chmod o+x" in (caught.value.hint or "")
