# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A parser that was taken over: what the process that it runs in still can do."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CheckError,
    NeedsPersonError,
    TimeUpError,
    TradekeepError,
    UnsafePathError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import worker
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import Account
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.chown import give_owner_mode
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.filesystem.identity import (
    acting_as,
    acting_uid,
    privileged,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.worker import Outlet, run_worker

from .conftest import BOT, Notes, as_bot, needs_root

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
ACCOUNT = Account(name=f"#{BOT}", uid=BOT, gid=BOT, home="/")


def told(work: Any, **options: Any) -> Any:
    return run_worker(lambda outlet, news: work(), account=ACCOUNT, progress=Notes(), **options)


@needs_root
def test_it_has_the_owners_account_and_no_way_back() -> None:
    def work() -> list[Any]:
        refused = []
        for attempt in (lambda: os.setuid(0), lambda: os.setgroups([0]), lambda: os.chroot("/"), lambda: os.kill(1, 0)):
            try:
                attempt()
            except PermissionError:
                refused.append(True)
        return [os.getresuid(), os.getresgid(), os.getgroups(), len(refused)]

    assert told(work) == [[BOT] * 3, [BOT] * 3, [BOT], 4]


@needs_root
def test_it_gets_no_more_rights_by_a_program_of_roots() -> None:
    status = told(lambda: Path("/proc/self/status").read_text())
    assert "NoNewPrivs:\t1" in status
    for capabilities in ("CapPrm", "CapEff", "CapAmb"):
        assert f"{capabilities}:\t0000000000000000" in status


@needs_root
def test_it_has_no_terminal_and_no_descriptor_of_roots(base: Path) -> None:
    secret = os.open(base / "held", os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(secret, True)

    def work() -> list[Any]:
        links = []
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the one that the listing itself had
                links.append(os.readlink(f"/proc/self/fd/{name}"))
        try:
            os.close(os.open("/dev/tty", os.O_RDWR))
        except OSError:
            return [links, os.getsid(0) == os.getpid()]
        return [links, False]

    try:
        links, alone = told(work)
    finally:
        os.close(secret)
    assert alone
    assert all(link == "/dev/null" or link.startswith("pipe:") for link in links), links


@needs_root
@pytest.mark.parametrize("account", [ACCOUNT, None], ids=["owner", "root"])
def test_the_bot_cannot_look_into_it_or_have_it_dump_core(account: Optional[Account]) -> None:
    def work(_outlet: Outlet, _news: int) -> list[Any]:
        dumpable = _prctl(_PR_GET_DUMPABLE, 0)
        return [dumpable, resource.getrlimit(resource.RLIMIT_CORE)]

    before = _prctl(_PR_GET_DUMPABLE, 0)
    _prctl(_PR_SET_DUMPABLE, 1)  # as it was started, whatever a test before has made of this process
    try:
        assert run_worker(work, account=account, progress=Notes()) == [0, [0, 0]]
    finally:
        _prctl(_PR_SET_DUMPABLE, before)


def _prctl(option: int, value: int) -> int:
    return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0))


@needs_root
def test_it_ends_with_who_waits_for_it(base: Path) -> None:
    said = base / "said"
    said.touch()
    said.chmod(0o666)
    middle = os.fork()
    if middle == 0:

        def work() -> None:
            said.write_text(str(os.getpid()))
            time.sleep(600)

        told(work)
        os._exit(0)
    deadline = time.monotonic() + 60
    while not said.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    number = int(said.read_text())
    deadline = time.monotonic() + 20
    try:
        while time.monotonic() < deadline and _lives(number):
            time.sleep(0.02)
        assert not _lives(number)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def _lives(number: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False


def test_its_memory_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MEMORY_BYTES", 256 << 20)
    with pytest.raises(TradekeepError, match="not enough memory"):
        run_worker(lambda outlet, news: len(bytearray(1 << 30)), account=None, progress=Notes())


def test_one_that_hangs_is_ended_by_its_own_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_GRACE_SECONDS", 30.0)
    started = time.monotonic()
    with pytest.raises(TimeUpError, match=r"no progress for 0.5 s"):
        run_worker(lambda outlet, news: time.sleep(600), account=None, progress=Notes(), seconds=0.5)
    assert time.monotonic() - started < 25


def test_one_that_ignores_its_alarm_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_GRACE_SECONDS", 0.5)

    def work(outlet: Outlet, _news: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(20)

    with pytest.raises(TimeUpError):
        run_worker(work, account=None, progress=Notes(), seconds=0.2)


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (b"R" + (1 << 40).to_bytes(8, "big"), "too much at once"),
        (b"N" + (1 << 30).to_bytes(8, "big"), "too much at once"),
        (b"R" + (3).to_bytes(8, "big") + b"}}}", "no JSON"),
        (b"R" + (200_000).to_bytes(8, "big") + b"[" * 200_000, "no JSON"),
        (b"x" + (1).to_bytes(8, "big") + b"x", "nobody asked for"),
        (b"E" + (2).to_bytes(8, "big") + b"[]", "nobody understands"),
        (b"E" + (36).to_bytes(8, "big") + b'{"class": "ExitStatus", "message":1}', "internal error"),
        (b"S" + (4).to_bytes(8, "big") + b"null", "nobody understands"),
        (b"A" + (3).to_bytes(8, "big") + b"1e9", "nobody understands"),
    ],
)
def test_what_it_says_is_judged(frame: bytes, match: str) -> None:
    def work(outlet: Outlet, _news: int) -> None:
        os.write(outlet._descriptor, frame)
        time.sleep(1)

    with pytest.raises((TradekeepError, NeedsPersonError), match=match):
        run_worker(work, account=None, progress=Notes())


def test_its_notes_have_an_end_whatever_it_sends() -> None:
    notes = Notes()

    def work(outlet: Outlet, _news: int) -> None:
        for number in range(2_000):
            outlet.send(b"N", json.dumps(f"{number}" * 1000).encode("ascii"))

    run_worker(work, account=None, progress=notes)
    assert len(notes.lines) == worker.MOST_NOTES
    assert max(len(line) for line in notes.lines) <= worker.LONGEST_NOTE


def test_one_that_is_honest_sends_no_more_notes_than_are_shown() -> None:
    sent: list[bytes] = []

    def work(outlet: Outlet, _news: int) -> int:
        real = outlet.send
        outlet.send = lambda kind, payload: (sent.append(payload), real(kind, payload))[1]  # type: ignore[method-assign]
        for number in range(2_000):
            outlet.note(f"{number}" * 1000)
        return len(sent)

    assert run_worker(work, account=None, progress=Notes()) == worker.MOST_NOTES


def test_its_error_keeps_its_status() -> None:
    def work(outlet: Outlet, _news: int) -> None:
        raise CheckError("odd", path="x.db", hint="look")

    with pytest.raises(CheckError, match="odd") as caught:
        run_worker(work, account=None, progress=Notes())
    assert (caught.value.path, caught.value.hint) == ("x.db", "look")


def test_one_that_is_killed_is_one_clear_line() -> None:
    with pytest.raises(TradekeepError, match="ended early"):
        run_worker(lambda outlet, news: os.kill(os.getpid(), signal.SIGKILL), account=None, progress=Notes())


@needs_root
def test_a_thread_acts_as_the_owner_and_root_comes_back(base: Path) -> None:
    (base / "root").write_text("root's")
    (base / "root").chmod(0o600)
    with acting_as(ACCOUNT):
        assert acting_uid() == BOT
        with pytest.raises(PermissionError):
            (base / "root").read_text()
        with privileged():
            assert (base / "root").read_text() == "root's"
        with pytest.raises(PermissionError):
            (base / "new").write_text("")
    assert acting_uid() == 0
    assert 0 in os.getgroups() or os.getgroups() == []


@needs_root
@pytest.mark.parametrize("in_a_process_of_the_owners", [False, True])
def test_what_changes_a_tree_is_out_of_reach_of_its_owner(in_a_process_of_the_owners: bool) -> None:
    """Why stages, exchanges and credentials are made by a thread with the owner's filesystem identity.

    The bot can stop, slow down and keep from writing any process that has its account, at any step of a transaction.
    """
    ready, at_work = os.pipe()
    process = os.fork()
    if process == 0:
        with contextlib.ExitStack() as stack:
            if in_a_process_of_the_owners:
                os.setgroups([])
                os.setresgid(BOT, BOT, BOT)
                os.setresuid(BOT, BOT, BOT)
                _prctl(_PR_SET_DUMPABLE, 0)
            else:
                stack.enter_context(acting_as(ACCOUNT))
            os.write(at_work, b".")
            time.sleep(600)
        os._exit(0)
    try:
        os.read(ready, 1)
        attempts: list[Callable[[], object]] = [
            lambda: os.kill(process, signal.SIGSTOP),
            lambda: resource.prlimit(process, resource.RLIMIT_FSIZE, (0, 0)),
            lambda: os.setpriority(os.PRIO_PROCESS, process, 19),
            lambda: os.close(os.open(f"/proc/{process}/mem", os.O_RDWR)),
        ]
        succeeded = told(lambda: [_succeeds(attempt) for attempt in attempts])
        assert succeeded == ([True, True, True, False] if in_a_process_of_the_owners else [False] * 4)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ready)
        os.close(at_work)


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return False
    return True


@needs_root
@pytest.mark.parametrize("kind", ["of root", "linked", "fifo"])
def test_only_what_was_made_here_is_given_away(base: Path, kind: str) -> None:
    place = base / "place"
    if kind == "fifo":
        as_bot_in(base, lambda: os.mkfifo(place))
    else:
        place.write_text("")
        if kind == "linked":
            os.chown(place, BOT, BOT)
            os.link(place, base / "second")
    before = place.stat()
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with acting_as(ACCOUNT), pytest.raises(UnsafePathError, match="is not given to"):
            give_owner_mode(descriptor, uid=1, gid=1, mode=0o666)
    finally:
        os.close(descriptor)
    assert (place.stat().st_uid, place.stat().st_mode) == (before.st_uid, before.st_mode)


def as_bot_in(base: Path, work: Any) -> None:
    os.chown(base, BOT, BOT)
    try:
        as_bot(work)
    finally:
        os.chown(base, 0, 0)
