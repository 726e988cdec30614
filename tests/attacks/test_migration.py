# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Migrations against a bot that was taken over on either server, and against the other server itself.

The bot is an account without rights; whatever root must not do for it is tried at the worst moment: a function of the
engine is wrapped, and what it is about to use is swapped by a process of the bot's just before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pwd
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Entry, entry_line
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ExitStatus,
    TradekeepError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.faults import foreseen
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.identity import privileged
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover import (
    at_rest,
    receiving,
    serving,
    shipping,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.arrivals import ARRIVING
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.channel import (
    VERSION,
    Channel,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.link import Link
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.serving import serve
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.taking import take_over
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate import (
    origin_archive,
    origin_directory,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from operations_handover.fake_systemd import MachineRunner
from operations_handover.pair import command
from operations_handover.servers import FILLS, LARGE, PREFERENCES, Pair, Server

pytestmark = pytest.mark.root

BOT = "nobody"
NOBODY = pwd.getpwnam(BOT).pw_uid
MARK = b"root alone may read this"
OTHER = {"host": "other", "installation": "0" * 32}
PLACE = "state/large.log"


class Notes(NoProgress):
    """What was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that the bot can reach, as it can /opt and /srv."""
    top = Path(tempfile.mkdtemp(prefix="tradekeep-attacks-"))
    top.chmod(0o755)
    yield top
    shutil.rmtree(top)


@pytest.fixture
def victim(base: Path) -> Path:
    """A directory of root's like /etc/cron.d: anybody may read it, and what lies in it is carried out."""
    place = base / "victim"
    place.mkdir(mode=0o755)
    return place


@pytest.fixture
def secrets(base: Path) -> Path:
    """A directory that root alone can read, with a file under the name of one of the bot's."""
    place = base / "secrets"
    place.mkdir(mode=0o700)
    for name in ("large.log", "own.json", "fills.db"):
        (place / name).write_bytes((MARK + b"\n") * 1000)
        (place / name).chmod(0o600)
    return place


@pytest.fixture
def old(base: Path) -> Server:
    """A server whose bot is down, with data of the bot's."""
    return filled(Server(base / "old", BOT))


@pytest.fixture
def new(base: Path) -> Server:
    return Server(base / "new", BOT)


def filled(server: Server) -> Server:
    (server.root / PREFERENCES).write_text('{"position_size": 3}')
    (server.root / LARGE).write_bytes(b"a line of the bot's\n" * 5000)
    connection = sqlite3.connect(server.root / FILLS)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE fills (id INTEGER PRIMARY KEY, trade_id TEXT)")
    connection.executemany("INSERT INTO fills (trade_id) VALUES (?)", [(f"t{n}",) for n in range(100)])
    connection.commit()
    connection.close()
    server.give_all()
    return server


def as_bot(do: Callable[[], object]) -> None:
    """Carry something out as the bot does: in a process of its own with none of root's rights."""
    account = pwd.getpwnam(BOT)
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            if os.getuid() == 0:  # else this is a process of the engine's that has the account already
                os.setgroups([])
                os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
                os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
            do()
            status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, "the bot could not do that"


def swapped(place: Path, target: Path) -> None:
    """What the bot does to a directory of its own: another one, of its choice, is in its place at once."""

    def swap() -> None:
        if not place.is_symlink():
            os.rename(place, place.with_name(place.name + ".away"))
            os.symlink(target, place)

    as_bot(swap)


def at_the_worst_moment(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, do: Callable[..., object]) -> None:
    """Have something done just before each call of a function of the engine."""
    original = getattr(holder, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        do(*arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(holder, name, wrapped)


def once(do: Callable[[], object]) -> Callable[..., None]:
    done: list[bool] = []

    def doing(*_arguments: Any) -> None:
        if not done:
            done.append(True)
            do()

    return doing


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fails where it takes longer."""

    def too_long(*_arguments: Any) -> None:
        raise AssertionError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ports_of(server: Server) -> Ports:
    return Ports(MachineRunner(server.base), SystemClock(), Notes())


def taken(new: Server, source: Server | Sequence[str], **options: Any) -> Outcome:
    """Take over in this process, where the engine can be watched."""
    words = command(source.base, "serve") if isinstance(source, Server) else list(source)
    link = Link("old", command=tuple(words), silence_seconds=20 if isinstance(source, Server) else 3)
    return take_over(new.application, ports_of(new), link, unit_dir=new.base / "units", patience_seconds=1.0, **options)


def failed(do: Callable[[], Outcome]) -> str:
    """The one line that it ends with; anything but an error of the engine's is a traceback, and fails the test."""
    try:
        outcome = do()
    except Exception as error:
        known = foreseen(error)
        if known is None:
            raise
        assert known.exit_status is ExitStatus.FAILED, error
        return str(known)
    assert outcome.status is ExitStatus.FAILED
    return "\n".join(outcome.lines)


def frame(message: dict[str, Any] | tuple[int, bytes]) -> bytes:
    if isinstance(message, tuple):
        body, kind = struct.pack(">Q", message[0]) + message[1], b"B"
    else:
        body, kind = json.dumps(message).encode(), b"J"
    return struct.pack(">cI", kind, len(body)) + body


def answered(server: Server, *requests: dict[str, Any] | tuple[int, bytes]) -> tuple[bytes, str]:
    """What a source says to these requests, as it goes over the wire, and the line that it ends with."""
    hello = {"do": "hello", "protocol": VERSION, "profile": server.application.profile.name, **OTHER}
    ours, asking = os.pipe()
    answering, theirs = os.pipe()
    said: list[bytes] = []

    def ask() -> None:
        sent = [*requests] if requests[:1] and isinstance(requests[0], dict) and "protocol" in requests[0] else None
        for request in sent or [hello, *requests, {"do": "bye"}]:
            data = frame(request)
            while data:
                try:
                    data = data[os.write(asking, data) :]
                except BrokenPipeError:
                    return
        os.close(asking)

    def listen() -> None:
        while data := os.read(answering, 1 << 16):
            said.append(data)

    threads = [threading.Thread(target=work, daemon=True) for work in (ask, listen)]
    for thread in threads:
        thread.start()
    channel, line = Channel(ours, theirs, silence_seconds=20), ""
    try:
        serve(server.application, ports_of(server), channel, unit_dir=server.base / "units")
    except TradekeepError as error:
        line = str(error)
    finally:
        os.close(ours)
        os.close(theirs)
        threads[1].join()
        os.close(answering)
    return b"".join(said), line


def hostile(base: Path, *messages: dict[str, Any] | tuple[int, bytes], **facts: Any) -> list[str]:
    """A source that greets as one should, and then says these messages whatever it is asked."""
    greeting = {
        "protocol": VERSION,
        "tool": "1",
        "application": "kalshi",
        "profile": "kalshi",
        "host": "evil",
        "installation": "f" * 32,
        "now": time.time(),
        "services": [],
        "fence": None,
        "migration": None,
        "files": 1,
        "bytes": 1000,
        **facts,
    }
    told = base / "told"
    told.write_bytes(b"".join(frame(message) for message in ({"hello": greeting}, *messages)))
    code = (
        "import os, sys, threading\n"
        "def say():\n"
        "    data = open(sys.argv[1], 'rb').read()\n"
        "    while data: data = data[os.write(1, data):]\n"
        "threading.Thread(target=say, daemon=True).start()\n"
        "while os.read(0, 65536): pass\n"
        "os._exit(0)\n"
    )
    return [sys.executable, "-S", "-c", code, str(told)]


def profile_name(server: Server) -> str:
    return server.application.profile.name


def entry(path: str = "preferences/own.json", entry_type: str = "file", size: int = 0, **more: Any) -> dict[str, Any]:
    return {"entry": entry_line(Entry(path, entry_type, size, 0o600, "root", "root", 1, **more))}


def tree_of(content: bytes) -> str:
    digests = receiving.Digests()
    digests.resize(len(content))
    for number in range(digests.count):
        digests.differs(number, content[number << 16 : (number + 1) << 16])
    return digests.tree()


def leaked(*tops: Path) -> list[str]:
    """Files in which something of root's has come to lie, apart from root's own directory."""
    found = []
    for top in tops:
        for path in top.rglob("*"):
            if path.is_file() and not path.is_symlink() and MARK in path.read_bytes():
                found.append(str(path))
    return found


def of_root_in(top: Path) -> list[str]:
    """What in the bot's tree belongs to root."""
    return [str(path) for path in top.rglob("*") if path.lstat().st_uid == 0]


# What the bot has prepared where the data of a migration arrives


def prepared(new: Server, do: Callable[[Path], object]) -> Path:
    place = new.root / ARRIVING

    def prepare() -> None:
        place.mkdir(mode=0o700)
        do(place)

    as_bot(prepare)
    return place


def test_a_directory_of_arrivals_that_is_a_link_leads_nowhere(old: Server, new: Server, victim: Path) -> None:
    """``migrate --from`` wrote the bot's file into root's directory."""
    prepared(new, lambda place: os.symlink(victim, place / "state"))
    outcome = taken(new, old)
    assert outcome.status is ExitStatus.DONE
    assert list(victim.iterdir()) == []
    assert (new.root / LARGE).read_bytes() == (old.root / LARGE).read_bytes()


def test_a_hard_link_among_the_arrivals_is_not_written_to(old: Server, new: Server, victim: Path) -> None:
    """Where protected_hardlinks is off, a bot can make one."""
    target = victim / "job"
    target.write_bytes(b"of root's")
    prepared(new, lambda place: (place / "state").mkdir())
    os.link(target, new.root / ARRIVING / LARGE)
    assert taken(new, old).status is ExitStatus.DONE
    assert target.read_bytes() == b"of root's"
    assert (target.stat().st_uid, target.stat().st_mode & 0o777) == (0, 0o644)


def test_a_fifo_among_the_arrivals_holds_nothing_up(old: Server, new: Server) -> None:
    def prepare(place: Path) -> None:
        (place / "state").mkdir()
        os.mkfifo(place / LARGE)
        os.mkfifo(place / "preferences")

    prepared(new, prepare)
    assert taken(new, old).status is ExitStatus.DONE
    assert (new.root / LARGE).read_bytes() == (old.root / LARGE).read_bytes()


def test_arrivals_whose_directory_is_swapped_while_they_come_go_nowhere(
    old: Server, new: Server, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (victim / "state").mkdir()

    def swap(arrival: Any, *_rest: Any) -> None:
        if arrival.entry.path == LARGE and not (new.root / ARRIVING).is_symlink():
            swapped(new.root / ARRIVING, victim)

    at_the_worst_moment(monkeypatch, receiving, "_Open", swap)
    line = failed(lambda: taken(new, old))
    assert list((victim / "state").iterdir()) == [] and len(list(victim.iterdir())) == 1
    assert line.count("\n") == 0


def test_the_stage_swapped_before_a_link_is_made_in_it(
    old: Server, new: Server, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link of the bot's choice in a directory of root's is a file of its choice there."""
    (old.root / "state/last.log").symlink_to("large.log")
    original = os.symlink

    def symlink(target: Any, place: Any, **options: Any) -> None:
        for stage in new.root.glob(".tradekeep-stage-*"):
            if not stage.is_symlink() and not (new.root / "away").exists():

                def swap(stage: Path = stage) -> None:
                    os.rename(stage, new.root / "away")
                    (stage / "new").mkdir(parents=True)
                    original(victim, stage / "new" / "state")

                as_bot(swap)
        original(target, place, **options)

    monkeypatch.setattr(os, "symlink", symlink)
    failed(lambda: taken(new, old))
    assert list(victim.iterdir()) == []


def test_live_data_that_is_swapped_is_not_read_as_root(
    old: Server, new: Server, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best guess at what comes was a copy of root's file, in the bot's directory."""
    filled(new)
    (old.root / LARGE).unlink()
    original = receiving.scan

    def scan(*arguments: Any, **options: Any) -> Iterator[Any]:
        for found in original(*arguments, **options):
            if found.path == LARGE and not (new.root / "state").is_symlink():
                swapped(new.root / "state", secrets)
            yield found

    monkeypatch.setattr(receiving, "scan", scan)
    failed(lambda: taken(new, old, force=True))
    assert leaked(new.root) == []
    assert MARK in (secrets / "large.log").read_bytes()


def test_what_lies_where_data_arrives_is_not_read_as_root(old: Server, new: Server, secrets: Path) -> None:
    """Digests of root's files would go to the other server, which can guess by them what is in the files."""
    prepared(new, lambda place: (place / "state").mkdir())
    os.link(secrets / "large.log", new.root / ARRIVING / "state" / "guess.log")
    spied: list[str] = []
    original = Channel.send

    def send(channel: Channel, message: Any) -> None:
        if message.get("do") == "have":
            spied.append(message["path"])
        original(channel, message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Channel, "send", send)
        assert taken(new, old).status is ExitStatus.DONE
    assert "state/guess.log" not in spied


def test_a_credential_that_becomes_a_fifo_holds_nothing_up(
    old: Server, new: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "credentials/kalshi/demo/kalshi-auth.txt"
    (old.root / key).write_text("key")
    old.give_all()

    def swap(*_arguments: Any) -> None:
        def become() -> None:
            place = new.root / ARRIVING / key
            place.unlink()
            os.mkfifo(place)

        as_bot(become)

    at_the_worst_moment(monkeypatch, receiving.Receiving, "credentials", once(swap))
    with within(60):
        line = failed(lambda: taken(new, old))
    assert "not a regular file" in line


def test_removing_arrivals_removes_nothing_elsewhere(old: Server, new: Server, victim: Path) -> None:
    (victim / ARRIVING).mkdir()
    (victim / ARRIVING / "kept").write_text("of root's")
    original = receiving.Receiving.remove

    def remove(arriving: receiving.Receiving) -> None:
        with privileged():  # of a directory that the bot owns
            os.chown(new.base, NOBODY, NOBODY)
            os.rename(new.root, new.base / "data.away")
            os.symlink(victim, new.root)
        original(arriving)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receiving.Receiving, "remove", remove)
        failed(lambda: taken(new, old))
    assert (victim / ARRIVING / "kept").exists()


# The source's side: what root reads, and sends


def swap_when_it_is_the_turn(monkeypatch: pytest.MonkeyPatch, name: str, old: Server, secrets: Path) -> None:
    """Swap the directory of a file when that is about to be read."""

    def swap(_shipping: Any, found: Any, *_rest: Any) -> None:
        if found.path == LARGE and not (old.root / "state").is_symlink():
            swapped(old.root / "state", secrets)

    at_the_worst_moment(monkeypatch, shipping.Shipping, name, swap)


def test_a_directory_swapped_while_it_is_read_sends_nothing_of_roots(
    old: Server, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap_when_it_is_the_turn(monkeypatch, "_live", old, secrets)
    said, _line = answered(old, {"do": "round"})
    assert MARK not in said


def test_a_directory_swapped_after_the_stop_sends_nothing_of_roots(
    old: Server, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap_when_it_is_the_turn(monkeypatch, "_at_rest", old, secrets)
    said, line = answered(old, {"do": "prepare", "id": "0" * 16}, {"do": "stop"}, {"do": "final"}, {"do": "holds"})
    assert MARK not in said
    assert line.count("\n") == 0
    assert old.fence is None, "what ran there is to run again"


def test_a_file_that_its_owner_cannot_read_is_named_and_not_sent(old: Server, secrets: Path) -> None:
    """A hard link, or what somebody has put there as root: no data of the application's."""
    os.link(secrets / "large.log", old.root / "state" / "linked.log")
    said, line = answered(old, {"do": "round"})
    assert MARK not in said and line == ""
    assert b'{"refused":"state/linked.log","why":"its owner cannot read it"}' in said


def wal_of_root(secrets: Path, rows: int = 50) -> Path:
    """The WAL of another application's database, with contents that are nobody's business."""
    place = secrets / "other.db"
    connection = sqlite3.connect(place)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE fills (id INTEGER PRIMARY KEY, trade_id TEXT)")
    connection.executemany("INSERT INTO fills (trade_id) VALUES (?)", [(MARK.decode(),) for _n in range(rows)])
    connection.commit()
    shutil.copy(f"{place}-wal", secrets / "kept-wal")
    connection.close()
    return secrets / "kept-wal"


def written_late(monkeypatch: pytest.MonkeyPatch, old: Server) -> None:
    """The bot writes to its database just before it is stopped."""

    def write() -> None:
        connection = sqlite3.connect(old.root / FILLS)
        connection.execute("INSERT INTO fills (trade_id) VALUES ('late')")
        connection.commit()
        os._exit(0)  # as a bot that is killed: what it wrote last is in the WAL

    at_the_worst_moment(monkeypatch, serving._Session, "_stop", once(lambda: as_bot(write)))


def test_a_wal_that_is_a_link_is_not_followed(old: Server, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root copied what it leads to beside its copy of the database, and sent the pages."""
    wal = wal_of_root(secrets)

    def swap() -> None:
        place = old.root / f"{FILLS}-wal"
        place.unlink(missing_ok=True)
        os.symlink(wal, place)

    written_late(monkeypatch, old)
    at_the_worst_moment(monkeypatch, shipping.Shipping, "_database_at_rest", once(lambda: as_bot(swap)))
    said, line = answered(old, {"do": "round"}, {"do": "prepare", "id": "0" * 16}, {"do": "stop"}, {"do": "final"})
    assert MARK not in said
    assert line.count("\n") == 0


def test_a_wal_without_end_holds_nothing_up(old: Server) -> None:
    """A sparse file of a terabyte: of it only what SQLite itself would count is looked at, and copied."""
    place = old.root / f"{FILLS}-wal"
    connection = sqlite3.connect(old.root / FILLS)
    connection.execute("INSERT INTO fills (trade_id) VALUES ('late')")
    connection.commit()
    content = place.read_bytes()
    connection.close()
    place.write_bytes(content)
    os.truncate(place, 1 << 40)
    copy = old.base / "copy.db"
    shutil.copy(old.root / FILLS, copy)
    with within(20):
        assert at_rest.wal_pages(place)
        at_rest.bring_in_wal(place, copy)
    assert copy.stat().st_size < 1 << 20


@pytest.mark.parametrize(
    "request_of",
    [
        {"do": "have", "path": "state/no-such-file", "size": 1 << 33},
        {"do": "have", "path": LARGE, "size": 1 << 33},
    ],
)
def test_a_target_cannot_fill_the_memory_with_digests(old: Server, request_of: dict[str, Any]) -> None:
    """What it has of a file that is not here, or beyond its end, is of no use and is not kept."""
    kept: list[int] = []

    class Kept(serving.Digests):
        def __init__(self, size: int, blocks: bytes) -> None:
            kept.append(len(blocks))
            super().__init__(size, blocks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "Digests", Kept)
        _said, line = answered(old, request_of, *[(0, bytes(1 << 16))] * 64)
    assert sum(kept) <= 1 << 12
    assert line.count("\n") == 0 and len(line) < 500


@pytest.mark.parametrize("key", ["host", "installation"])
def test_a_target_with_an_odd_name_is_refused(old: Server, key: str) -> None:
    """Its name is written into the fence, and shown to whoever looks."""
    hello = {"do": "hello", "protocol": VERSION, "profile": profile_name(old), **OTHER, key: "x\n\x1b[2Jok"}
    _said, line = answered(old, hello)
    assert "without a proper" in line
    assert old.fence is None


# The other server of a migration: what it says is judged


SAID = [
    (
        {"services": [{"manager": "systemd", "running": ["debug-shell.service"]}]},
        "debug-shell.service runs on the source and is not installed here",
    ),
    ({"migration": [1]}, "proper migration"),
    ({"now": float("nan")}, "no message"),
    ({"now": 1e999}, "no message"),
    ({"host": "x\n\x1b[2J"}, "proper host"),
]


@pytest.mark.parametrize(("facts", "line"), SAID)
def test_what_a_source_says_of_itself_is_judged(base: Path, new: Server, facts: dict[str, Any], line: str) -> None:
    """A source that says that any unit of the system runs there would have it started here."""
    (new.base / "units" / "debug-shell.service").write_text("# a shell of root's\n")
    facts = {"profile": profile_name(new), **facts}
    messages = [entry(size=0), {"end": tree_of(b"")}, {"round": {}}]
    found = failed(lambda: taken(new, hostile(base, *messages, **facts)))
    assert line in found


def deep(levels: int) -> str:
    return "state/" + "d/" * levels + "x"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (entry(deep(150)), "lies too deep"),
        (entry("state/\ud800x"), "no name of a file"),
        ({"entry": json.dumps({**json.loads(entry()["entry"]), "path": ["x"]})}, "no name of a file"),
        ({"entry": json.dumps({**json.loads(entry("state/l", "symlink")["entry"]), "target": 7})}, "symlink"),
        (entry("state/link", "symlink", target="x" * 5000), "symlink"),
        (entry("state/x\x1b[2J"), "control characters"),
    ],
)
def test_what_a_source_sends_is_judged(base: Path, new: Server, message: dict[str, Any], line: str) -> None:
    found = failed(lambda: taken(new, hostile(base, message, {"round": {}}, profile=profile_name(new))))
    assert line in found
    assert of_root_in(new.root) == []


def test_a_source_that_sends_more_files_than_there_is_room_for_is_stopped(
    base: Path, new: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before this server has no inode left for anybody."""
    original = receiving.space

    def little(path: Any) -> Any:
        used = len(list(new.root.glob(f"{ARRIVING}/state/*")))
        return dataclasses.replace(original(path), inodes_free=2500 - used)

    monkeypatch.setattr(receiving, "space", little)
    messages = [message for n in range(3000) for message in (entry(f"state/{n}", size=0), {"end": tree_of(b"")})]
    found = failed(lambda: taken(new, hostile(base, *messages, {"round": {}}, profile=profile_name(new))))
    assert "inodes" in found
    assert not (new.root / ARRIVING).exists(), "the room is worth more to others than what has arrived"


def test_a_source_that_never_ends_is_ended(base: Path, new: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "MOST_MESSAGES", 1000)
    messages = [entry(size=0), {"end": tree_of(b"")}] * 2000
    found = failed(lambda: taken(new, hostile(base, *messages, {"round": {}}, profile=profile_name(new))))
    assert "no end" in found


def test_a_source_whose_files_together_are_larger_than_the_disk_is_stopped(
    base: Path, new: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them fits, as a file of holes."""
    original = receiving.space
    monkeypatch.setattr(receiving, "space", lambda path: dataclasses.replace(original(path), bytes_free=10 << 20))
    messages = [entry(f"state/{n}", size=6 << 20) for n in range(4)]
    found = failed(lambda: taken(new, hostile(base, *messages, {"round": {}}, profile=profile_name(new))))
    assert "are to come" in found


# A source on this host


def moved_in(new: Server, source: Path, **options: Any) -> Outcome:
    return migrate(new.application, ports_of(new), source=str(source), **options)


def copy_of_data(old: Server, place: Path, uid: int) -> Path:
    shutil.copytree(old.root, place, symlinks=True)
    for path in (place, *place.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)
    return place


def test_a_source_of_the_bots_that_is_swapped_is_not_read_as_root(
    base: Path, old: Server, new: Server, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``migrate --from`` a directory that the bot can write to."""
    home = base / "home"
    home.mkdir(mode=0o755)
    os.chown(home, NOBODY, NOBODY)
    source = copy_of_data(old, home / "data", NOBODY)

    def swap(_origin: Any, found: Any, *_rest: Any) -> None:
        if found.path == LARGE and not (source / "state").is_symlink():
            swapped(source / "state", secrets)

    at_the_worst_moment(monkeypatch, origin_directory.DirectoryOrigin, "_read", swap)
    line = failed(lambda: moved_in(new, source))
    assert leaked(new.root) == []
    assert line.count("\n") == 0


def test_a_source_in_which_the_bot_can_write_somewhere_is_not_read_as_root(
    base: Path, old: Server, new: Server, secrets: Path
) -> None:
    """The directory itself is root's, but one below it is not: nor is what that holds root's to read."""
    source = copy_of_data(old, base / "kept", 0)
    for path in (source / "state", *(source / "state").iterdir()):
        os.chown(path, NOBODY, NOBODY)
    os.link(secrets / "large.log", source / "state" / "linked.log")
    line = failed(lambda: moved_in(new, source))
    assert leaked(new.root) == []
    assert "may not be read" in line


@pytest.mark.parametrize("uid", [0, 54321])
def test_a_source_that_root_alone_can_reach_is_read_whole(base: Path, old: Server, new: Server, uid: int) -> None:
    """Whoever the files belong to: copies of other servers keep their numbers."""
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    source = copy_of_data(old, closed / "data", uid)
    (source / LARGE).chmod(0o600)
    assert moved_in(new, source).record["state"] == "migrated"
    assert (new.root / LARGE).read_bytes() == (old.root / LARGE).read_bytes()
    assert of_root_in(new.root) == []


@pytest.mark.parametrize("place", ["of the bot", "of root"])
def test_databases_are_read_by_the_owner_alone(
    base: Path, old: Server, new: Server, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A database made to exploit SQLite meets a process that has nothing of root's, whoever can read the source."""
    closed = base / "closed"
    closed.mkdir(mode=0o700 if place == "of root" else 0o755)
    source = copy_of_data(old, closed / "data", 0 if place == "of root" else NOBODY)
    told = base / "told"
    told.touch()
    told.chmod(0o666)
    original = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> Any:
        with told.open("a") as log:
            log.write(f"{os.getresuid()} {os.getresgid()}\n")
        return original(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", connect)
    assert moved_in(new, source).record["state"] == "migrated"
    monkeypatch.undo()
    assert set(told.read_text().splitlines()) == {f"{(NOBODY,) * 3} {(pwd.getpwnam(BOT).pw_gid,) * 3}"}
    assert new.fills() == old.fills()


def test_databases_are_read_by_the_owner_alone_on_both_servers(
    old: Server, new: Server, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(new)
    told = base / "told"
    told.touch()
    told.chmod(0o666)
    original = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> Any:
        with told.open("a") as log:
            log.write(f"{os.getresuid()}\n")
        return original(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", connect)
    written_late(monkeypatch, old)
    requests = [{"do": "round"}, {"do": "prepare", "id": "0" * 16}, {"do": "stop"}, {"do": "final"}, {"do": "holds"}]
    said, line = answered(old, *requests)
    assert line == "" and b'{"holds"' in said
    done = taken(new, old, force=True)
    assert done.status is ExitStatus.DONE and done.record["backup"], done.lines
    monkeypatch.undo()
    assert set(told.read_text().splitlines()) == {f"{(NOBODY,) * 3}"}


def test_an_archive_of_the_bots_that_is_swapped_is_not_read_as_root(
    base: Path, old: Server, new: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another application's backup, which root alone may read, would become the bot's data."""
    (old.root / "state" / "kept.log").write_bytes(MARK)
    old.give_all()
    backup(old.application, ports_of(old))
    kept = next(Path(old.application.backup_dir).glob("user_data_*.tar.gz"))
    home = base / "home"
    home.mkdir(mode=0o755)
    place = home / "mine.tar.gz"
    place.write_bytes(b"anything")
    for path in (home, place):
        os.chown(path, NOBODY, NOBODY)

    def swap() -> None:
        place.unlink()
        os.symlink(kept, place)

    at_the_worst_moment(monkeypatch, origin_archive, "_open_archive", once(lambda: as_bot(swap)))
    failed(lambda: moved_in(new, place))
    assert leaked(new.root) == []


# And all of it works with an owner that has no rights: what root forgot to do itself would be refused


def test_an_archive_comes_to_an_owner_without_rights(old: Server, new: Server) -> None:
    backup(old.application, ports_of(old))
    archive = next(Path(old.application.backup_dir).glob("user_data_*.tar.gz"))
    done = moved_in(new, archive)
    assert done.record["state"] == "migrated", done.lines
    assert new.fills() == old.fills()
    assert of_root_in(new.root) == []
    assert moved_in(new, archive).record["state"] == "unchanged"


def test_an_archive_without_a_manifest_comes_too(base: Path, old: Server, new: Server) -> None:
    archive = base / "of-old-script.tar.gz"
    subprocess.run(["tar", "-czf", str(archive), "-C", str(old.base), "data"], check=True)
    done = moved_in(new, archive)
    assert done.record["state"] == "migrated", done.lines
    assert new.fills() == old.fills()
    assert of_root_in(new.root) == []


def test_a_directory_comes_to_an_owner_without_rights_and_replaces_what_is_there(old: Server, new: Server) -> None:
    filled(new)
    (new.root / PREFERENCES).write_text('{"position_size": 4}')
    new.give_all()
    refused = moved_in(new, old.root)
    assert refused.status is ExitStatus.FAILED and "differs on this host" in "\n".join(refused.lines)
    done = moved_in(new, old.root, force=True)
    assert done.record["state"] == "migrated" and done.record["backup"], done.lines
    assert (new.root / PREFERENCES).read_text() == '{"position_size": 3}'
    assert of_root_in(new.root) == []


def test_a_bot_without_rights_moves_while_it_trades(base: Path) -> None:
    pair = Pair(base, BOT)
    try:
        for server in (pair.old, pair.new):
            assert server.state.parent.stat().st_uid == 0
        done = pair.take()
        assert done.returncode == 0, done.stderr + done.stdout
        assert pair.alive == ["new"]
        pair.check_never_two()
        assert (pair.new.root / LARGE).read_bytes() == (pair.old.root / LARGE).read_bytes()
        assert of_root_in(pair.new.root) == []
        assert list(pair.new.root.glob(".tradekeep*")) == []
        before = pair.promised
        pair.wait(lambda: pair.promised > before)
        pair.check_nothing_lost(pair.new)
    finally:
        pair.end()


def test_a_bot_without_rights_that_does_not_start_is_given_back(base: Path) -> None:
    pair = Pair(base, BOT)
    try:
        (pair.new.base / "refuses").touch()
        done = pair.take()
        assert done.returncode == 3, done.stderr + done.stdout
        pair.wait(lambda: pair.alive == ["old"])
        assert pair.old.fence is None
        pair.check_never_two()
        again = pair.new.run("look", source=str(pair.old.base))
        assert again.returncode == 0, again.stderr
    finally:
        pair.end()


def test_a_migration_that_is_killed_is_given_up_by_its_recovery(base: Path) -> None:
    """With an owner without rights; what was exchanged goes back, and nothing of root's stays in the tree."""
    pair = Pair(base, BOT)
    try:
        done = pair.take(step="verified#1", signal=int(signal.SIGKILL))
        assert done.returncode == -signal.SIGKILL
        pair.wait(lambda: pair.alive == ["old"])
        settled = pair.new.run("recover")
        assert settled.returncode == 0, settled.stderr
        assert pair.new.fence is None and not (pair.new.root / LARGE).exists()
        assert of_root_in(pair.new.root) == []
        again = pair.take()
        assert again.returncode == 0, again.stderr
        assert pair.alive == ["new"]
        pair.check_never_two()
    finally:
        pair.end()


def test_hooks_checks_and_health_run_as_the_owner(base: Path) -> None:
    """Their output is kept where root alone can read it."""
    said = {"command": ["/bin/sh", "-c", "id -u"], "timeout_seconds": 30}
    pair = Pair(
        base,
        BOT,
        migrate={
            "checks": [said],
            "hooks": [{"at": step, **said} for step in ("before_stop", "before_start", "after_start")],
        },
    )
    try:
        done = pair.take()
        assert done.returncode == 0, done.stderr + done.stdout
        record = json.loads(done.stdout)["record"]
        assert [hook["last_line"] for hook in record["hooks"]] == [str(NOBODY)] * 3
        assert all(Path(hook["log"]).stat().st_uid == 0 for hook in record["hooks"])
    finally:
        pair.end()
