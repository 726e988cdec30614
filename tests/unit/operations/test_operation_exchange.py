# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exchange that a restore and its like have in common: what is put back, and when a person is needed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    CheckError,
    NeedsPersonError,
    ServiceError,
    SpaceError,
    TradekeepError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.mounts import device_roots
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.exchange_run import Change, run_exchange
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction import exchange as exchange_module
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.exchange import (
    Exchange,
    pending,
    refuse_pending,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.lock import application_lock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.plan import Replacement
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.recovery import recover_transaction
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.stage import Stage

SNAPSHOT = [{"manager": "none", "units": [], "running": ["bot"]}]


class Services:
    """Remembers what it was asked; refuses the n-th call of the given kind."""

    def __init__(self, refuse=("", 0), running=SNAPSHOT):
        self.calls = []
        self.running = running
        self.refuse = refuse

    def _called(self, name):
        self.calls.append(name)
        if (name, self.calls.count(name)) == self.refuse:
            raise ServiceError(f"did not {name}", path="bot.service")

    def snapshot(self):
        return self.running

    def stop(self, snapshot):
        self._called("stop")

    def start(self, snapshot):
        self._called("start")

    def wait_until_steady(self, snapshot):
        self._called("stay up")


class Place:
    """A file, what is to replace it, and the change that does it."""

    def __init__(self, base: Path, services: Services, *, confirm=lambda: None, refuse_writers=lambda: None):
        self.root, self.state = base / "data", base / "state"
        self.root.mkdir()
        self.state.mkdir()
        (self.root / "file").write_text("old")
        self.services = services
        self.confirm = confirm
        self.refuse_writers = refuse_writers
        self.kept = []
        self.downtimes = []

    def run(self, progress=None):
        ports = Ports(SubprocessRunner(), SystemClock(), progress or NoProgress())
        with Stage.create(self.state, device_roots(self.root)) as stage:
            staged = Path(stage.path_for("file", ""))
            staged.parent.mkdir(parents=True, exist_ok=True)
            staged.write_text("new")
            change = Change(
                operation="deploy",
                in_place="the new code is in place",
                replacements=lambda: [Replacement(str(self.root / "file"), str(staged), stage.kept_for("file"))],
                confirm=self.confirm,
                keep=self.keep,
                was_down=self.downtimes.append,
            )
            return run_exchange(
                change,
                state_dir=self.state,
                stage=stage,
                services=self.services,
                ports=ports,
                refuse_writers=self.refuse_writers,
            )

    def keep(self, exchange: Exchange) -> str:
        self.kept += [Path(item.kept).read_text() for item in exchange.replacements]
        return "kept"

    @property
    def content(self) -> str:
        return (self.root / "file").read_text()


def refuse():
    raise CheckError("the new code does not answer")


def test_each_time_that_the_services_were_stopped_is_told(tmp_path):
    (tmp_path / "good").mkdir()
    good = Place(tmp_path / "good", Services())
    good.run()
    assert len(good.downtimes) == 1
    bad = Place(tmp_path, Services(), confirm=refuse)
    with pytest.raises(CheckError):
        bad.run()
    assert len(bad.downtimes) == 2


def test_a_change_is_confirmed_before_what_it_replaced_is_kept(tmp_path):
    seen = []
    place = Place(tmp_path, Services(), confirm=lambda: seen.append(place.content))
    done = place.run()
    assert (done, seen, place.kept, place.content) == ("kept", ["new"], ["old"], "new")
    assert place.services.calls == ["stop", "start", "stay up"]
    assert pending(place.state) is None
    assert not (place.state / "stopped.json").exists()


def test_a_change_that_is_not_confirmed_is_put_back(tmp_path):
    place = Place(tmp_path, Services(), confirm=refuse)
    with pytest.raises(CheckError, match="does not answer"):
        place.run()
    assert (place.content, place.kept) == ("old", [])
    assert place.services.calls == ["stop", "start", "stay up", "stop", "start", "stay up"]
    assert pending(place.state) is None
    assert not (place.state / "stopped.json").exists()


def test_nothing_is_exchanged_under_a_process_that_still_writes(tmp_path):
    seen = []

    def still_written():
        seen.append((place.services.calls[:], place.content))
        raise CheckError("python3 (process 7) writes fills.db")

    place = Place(tmp_path, Services(), refuse_writers=still_written)
    with pytest.raises(CheckError, match="process 7"):
        place.run()
    assert seen == [(["stop"], "old")]
    assert (place.content, place.kept, pending(place.state)) == ("old", [], None)
    assert place.services.calls == ["stop", "start", "stay up"]


@pytest.mark.parametrize(
    ("refused", "data", "said"),
    [
        (("stop", 2), "new", "the old data could not be put back: did not stop"),
        (("start", 2), "old", "the data is as it was, but a service does not run: did not start"),
        (("stay up", 2), "old", "the data is as it was, but a service does not run: did not stay up"),
    ],
)
def test_a_putting_back_that_fails_needs_a_person(tmp_path, refused, data, said):
    place = Place(tmp_path, Services(refused), confirm=refuse)
    with pytest.raises(NeedsPersonError) as caught:
        place.run()
    assert str(caught.value).startswith("bot.service: the new code does not answer; " + said)
    assert "tradekeep recover" in caught.value.hint
    assert place.content == data
    # Either is enough for recover to start the services again.
    assert (pending(place.state) is not None) == (data == "new")
    assert (place.state / "stopped.json").exists()


def test_what_cannot_be_kept_needs_a_person(tmp_path, monkeypatch):
    place = Place(tmp_path, Services(running=[]))

    def full(exchange):
        raise SpaceError("disk is full", path="/backups", hint="free some space")

    monkeypatch.setattr(place, "keep", full)
    with pytest.raises(NeedsPersonError) as caught:
        place.run()
    assert str(caught.value) == "/backups: disk is full (free some space, then run: tradekeep recover)"
    assert place.content == "new"
    assert pending(place.state) is not None


def test_services_are_started_even_where_leftovers_cannot_be_removed(tmp_path, monkeypatch):
    place = Place(tmp_path, Services(running=[]), confirm=refuse)

    def clean(self, step):
        raise TradekeepError("input/output error", path="/stage")

    with monkeypatch.context() as patched:
        patched.setattr(Exchange, "clean", clean)
        with pytest.raises(NeedsPersonError, match="the transaction could not be ended: input/output error"):
            place.run()
    assert place.content == "old"
    assert place.services.calls[-2:] == ["start", "stay up"]
    assert pending(place.state) is not None
    with pytest.raises(NeedsPersonError, match="cut off"):
        refuse_pending(place.state)
    recover_transaction(place.state, runner=SubprocessRunner(), clock=SystemClock())
    assert place.content == "old"
    refuse_pending(place.state)


def test_an_operation_at_work_is_not_one_that_was_cut_off(tmp_path):
    place = Place(tmp_path, Services(("stop", 2)), confirm=refuse)
    with pytest.raises(NeedsPersonError):
        place.run()
    with pytest.raises(NeedsPersonError), application_lock(place.state, operation="x", clock=SystemClock()):
        refuse_pending(place.state)  # the lock is ours: nobody else is at work
    descriptor = os.open(place.state / "lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # as another process does
        refuse_pending(place.state)
    finally:
        os.close(descriptor)
    with pytest.raises(NeedsPersonError):
        refuse_pending(place.state)


def test_what_is_left_of_an_exchange_that_stands_is_said_and_recovered(tmp_path, monkeypatch):
    class Notes(NoProgress):
        def __init__(self):
            self.texts = []

        def note(self, text):
            self.texts.append(text)

    def refuse(directory):
        raise TradekeepError("permission denied", path=directory)

    place, notes = Place(tmp_path, Services()), Notes()
    with monkeypatch.context() as patched:
        patched.setattr(exchange_module, "remove_stage", refuse)
        place.run(notes)
    assert (place.root / "file").read_text() == "new"
    assert "not all leftovers could be removed" in notes.texts[0] and "tradekeep recover" in notes.texts[0]
