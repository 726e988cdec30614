# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What parses archives and databases of a bot has its owner's rights, can be killed, and is not believed.

A hostile archive that takes a parser over is played by a parser that was exchanged: what it can do is what the
attacker could.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive import reported, tar_reader
from ansible_collections.tradekeep.ops.plugins.module_utils.core.drill_settings import Drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ArchiveError,
    ExitStatus,
    InterruptedBySignal,
    TradekeepError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import apart, databases, reading
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations import verify as verifying
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills import checks, live, unpacking
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.drills.drill import drill
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate import origin_archive
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.migrate.migrate import migrate
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.tree import tree
from ansible_collections.tradekeep.ops.plugins.module_utils.core.patterns import expected_files
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.signals import interruptible
from ansible_collections.tradekeep.ops.plugins.module_utils.core.storage.local import LocalCatalog

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be two accounts")
FILLS = "databases/accounts/kalshi/demo/fills.db"
PORTS = Ports(SubprocessRunner(), SystemClock(), NoProgress(), workers=True)
OWNER, NOBODY = 61234, 65534


class Server:
    """An application of an account's, its first backup, and what no reader may reach."""

    def __init__(self, base: Path) -> None:
        self.base = base
        places = {name: str(base / name) for name in ("root", "backup_dir", "state_dir", "config_dir", "bin_dir")}
        made = resolve_application("kalshi", become=True, owner="nobody", group="nogroup", **places)
        profile = dataclasses.replace(made.profile, drill=Drill())
        self.application = dataclasses.replace(made, profile=profile, owner=f"#{OWNER}", group=f"#{OWNER}")
        self.evidence = base / "evidence"
        self.evidence.mkdir()
        self.evidence.chmod(0o777)
        tree(self.application, PORTS, fix=True)
        target = Path(self.application.root) / FILLS
        target.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(target)
        connection.execute("CREATE TABLE fills (id INTEGER PRIMARY KEY, trade_id TEXT)")
        connection.executemany("INSERT INTO fills (trade_id) VALUES (?)", [(f"t{n}",) for n in range(100)])
        connection.commit()
        connection.close()
        for _component, rule in expected_files(profile):
            if rule.pattern != FILLS:
                shutil.copy(target, Path(self.application.root) / rule.pattern)
        for directory, names, files in os.walk(self.application.root):
            for name in (".", *names, *files):
                os.chown(os.path.join(directory, name), OWNER, OWNER, follow_symlinks=False)
        backup(self.application, PORTS)
        self.older = LocalCatalog(self.application, PORTS.clock).find("latest").path
        self.secret = base / "root-only"
        self.secret.touch(0o600)

    def left(self) -> list[str]:
        state = Path(self.application.application_state_dir)
        return [
            str(path)
            for path in state.rglob("*")
            if path.name.startswith(tuple(f".tradekeep-{what}" for what in ("verify", "check", "drill", "compare")))
        ]

    def report(self) -> None:
        """In the reader: what it is, and what it can do."""
        status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
        found = {name: status[name].split() for name in ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "NoNewPrivs")}
        found["opened"] = [str(path) for path in (self.secret, self.older) if _opens(path)]
        found["descriptors"] = [
            target
            for name in os.listdir("/proc/self/fd")
            if (target := _target(name)).startswith(str(self.base)) and ".tradekeep-" not in target
        ]
        found["becomes root"] = _becomes_root()
        path = self.evidence / f"{os.getpid()}.json"
        path.write_text(json.dumps(found))

    def heard(self) -> list[dict]:
        return [json.loads(path.read_text()) for path in self.evidence.iterdir()]


def _opens(path: Path) -> bool:
    try:
        path.read_bytes()
    except PermissionError:
        return False
    return True


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


def _becomes_root() -> bool:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return False
    return True


@pytest.fixture
def server(base):
    return Server(base)


def preceded_by(call, function):
    @functools.wraps(function)
    def wrapped(*arguments, **options):
        call()
        return function(*arguments, **options)

    return wrapped


WORKS = {
    "verify": (verifying, "read_archive", OWNER, lambda it: verify(it, deep=False)),
    "verify deep": (verifying, "_checked", OWNER, lambda it: verify(it, deep=True)),
    "restore": (reading, "read_archive", NOBODY, lambda it: restore(it, PORTS, dry_run=True)),
    "drill unpacks": (unpacking, "extract_to", OWNER, lambda it: drill(it, PORTS)),
    "drill checks": (checks, "_fault_of", OWNER, lambda it: drill(it, PORTS)),
    "drill compares": (live, "live_rows", OWNER, lambda it: drill(it, PORTS)),
    "drill looks": (live, "scan", OWNER, lambda it: drill(it, PORTS)),
    "migrate": (tar_reader, "_Reader", OWNER, lambda it: moved_in(it, latest)),
    "migrate without a manifest": (
        tar_reader,
        "_Reader",
        OWNER,
        lambda it: moved_in(it, without_manifest),
    ),
    "migrate unpacks": (
        origin_archive,
        "extract_to",
        OWNER,
        lambda it: moved_in(it, without_manifest),
    ),
    "db check": (databases, "inspect_live", OWNER, lambda it: databases.check_databases(it, PORTS)),
    "db check looks": (databases, "scan", OWNER, lambda it: databases.check_databases(it, PORTS)),
    "db optimize": (databases, "optimize", OWNER, lambda it: databases.optimize_databases(it, PORTS)),
}


def moved_in(application, source):
    return migrate(application, PORTS, source=source(application))


def latest(application):
    return str(LocalCatalog(application, PORTS.clock).find("latest").path)


def without_manifest(application):
    root = Path(application.root)
    subprocess.run(["tar", "-czf", f"{root}.tar.gz", "-C", root.parent, root.name], check=True)
    return f"{root}.tar.gz"


def verify(application, **options):
    return verifying.verify(application, PORTS, reference="latest", **options)


@pytest.mark.parametrize("name", list(WORKS))
def test_a_parser_has_the_owners_rights_and_nothing_of_roots(server, monkeypatch, name):
    module, function, uid, work = WORKS[name]
    monkeypatch.setattr(module, function, preceded_by(server.report, getattr(module, function)))
    outcome = work(server.application)
    assert outcome.status is ExitStatus.DONE, outcome.lines
    heard = server.heard()
    assert heard
    for found in heard:
        assert found == {
            "Uid": [str(uid)] * 4,
            "Gid": [str(uid)] * 4,
            "Groups": [str(uid)],
            "CapPrm": ["0" * 16],
            "CapEff": ["0" * 16],
            "NoNewPrivs": ["1"],
            "opened": [],
            "descriptors": [],
            "becomes root": False,
        }
    assert server.left() == []


def kills_itself(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)


def never_ends(*_arguments, **_options):
    """Or, should nobody end it, later than any test waits for."""
    time.sleep(20)
    os._exit(0)


@pytest.mark.parametrize("name", list(WORKS))
@pytest.mark.parametrize("fault", [kills_itself, never_ends])
def test_a_parser_that_dies_or_never_ends_is_one_clear_line(server, monkeypatch, name, fault):
    module, function, _uid, work = WORKS[name]
    monkeypatch.setattr(module, function, fault)
    limits = (
        (apart, "PATIENCE"),
        (databases, "_CHECK_SECONDS"),
        (databases, "_OPTIMIZE_SECONDS"),
        (live, "_LOOK_SECONDS"),
    )
    for place, limit in limits:
        monkeypatch.setattr(place, limit, 1.0)
    started = time.monotonic()
    text = ""
    try:
        outcome = work(server.application)
        # What cannot be read is what verify and drill are there to find.
        assert outcome.status is ExitStatus.FINDINGS
        text = "\n".join(outcome.lines)
    except TradekeepError as error:
        assert error.exit_status is ExitStatus.FAILED
        text = str(error)
    assert ("ended early" if fault is kills_itself else "made no progress") in text
    assert time.monotonic() - started < 30
    assert server.left() == []


@pytest.mark.parametrize("name", ["verify deep", "drill checks", "db check", "restore"])
def test_a_signal_ends_a_parser_that_hangs(server, monkeypatch, name):
    module, function, _uid, work = WORKS[name]
    monkeypatch.setattr(module, function, never_ends)
    parent = os.getpid()
    sender = os.fork()
    if sender == 0:
        time.sleep(2)
        os.kill(parent, signal.SIGTERM)
        os._exit(0)
    started = time.monotonic()
    with pytest.raises(InterruptedBySignal), interruptible():
        work(server.application)
    assert time.monotonic() - started < 10
    os.waitpid(sender, 0)
    assert server.left() == []


# What a parser says is not believed


ENTRY = ["a", "file", 1, 0o644, "bot", "bot", 0, "0" * 64, None, None, None, None]


@pytest.mark.parametrize(
    "said",
    [
        [["../../etc/cron.d/x", *ENTRY[1:]]],
        [["/etc/passwd", *ENTRY[1:]]],
        [["a", "file", 1, 0o4755, *ENTRY[4:]]],
        [["a", "symlink", 0, 0o777, "", "", 0, None, "/etc", None, None, None], ["a/passwd", *ENTRY[1:]]],
        [ENTRY, ENTRY],
        [["a", "device", *ENTRY[2:]]],
        [["a", "file", "1", *ENTRY[3:]]],
        [["a", "file", -1, *ENTRY[3:]]],
        [[*ENTRY[:7], "x", *ENTRY[8:]]],
        [["a"]],
        [[["a"], *ENTRY[1:]]],
        {"a": 1},
        [1],
        "a",
    ],
)
def test_no_entry_is_believed_that_no_archive_may_hold(server, monkeypatch, said):
    def lie(self):
        self._send(json.dumps(said).encode())

    monkeypatch.setattr(reported.EntriesOut, "add", lambda *_arguments: None)
    monkeypatch.setattr(reported.EntriesOut, "flush", lie)
    with pytest.raises(ArchiveError) as caught:
        restore(server.application, PORTS, dry_run=True)
    assert caught.value.exit_status is ExitStatus.FAILED


@pytest.mark.parametrize("said", [None, [], {"layout": "tradekeep"}, "x"])
def test_no_report_is_believed_that_is_none(server, monkeypatch, said):
    monkeypatch.setattr(reading, "report_as", lambda _report: said)
    with pytest.raises(ArchiveError, match="no report"):
        restore(server.application, PORTS, dry_run=True)


@pytest.mark.parametrize("said", [None, "x", ["a"], ["../a", None], ["a", 1], ["a", None, None]])
def test_no_finding_on_a_credential_is_believed_that_is_none(server, monkeypatch, said):
    key = Path(server.application.root) / "credentials" / "key.json"
    key.write_text("{}")
    os.chown(key, OWNER, OWNER)
    backup(server.application, PORTS)
    monkeypatch.setattr(origin_archive, "finding_as", lambda *_arguments: json.dumps(said).encode())
    with pytest.raises(ArchiveError) as caught:
        moved_in(server.application, latest)
    assert caught.value.exit_status is ExitStatus.FAILED


def test_a_frame_that_nobody_asked_for_ends_the_reading(server, monkeypatch):
    read = verifying.read_archive

    def chatty(stream, sink):
        sink._progress.send(b"z", b"x")
        return read(stream, sink)

    monkeypatch.setattr(verifying, "read_archive", chatty)
    outcome = verify(server.application)
    assert outcome.status is ExitStatus.FINDINGS
    assert "sends what nobody asked for" in "\n".join(outcome.lines)


@pytest.mark.parametrize(
    ("module", "function", "work"),
    [
        (checks.Findings, "said", lambda it: drill(it, PORTS)),
        (live, "_point_as", lambda it: drill(it, PORTS)),
    ],
)
@pytest.mark.parametrize("said", [None, [1], {"problems": 1}, "x"])
def test_findings_that_nobody_understands_are_a_failure(server, monkeypatch, module, function, work, said):
    monkeypatch.setattr(module, function, lambda *_arguments: said)
    outcome = work(server.application)
    assert outcome.record["verdict"] == "failed"
    assert outcome.status is ExitStatus.FINDINGS


@pytest.mark.parametrize("said", [None, 1, [1], [{"path": "x"}], [{"path": "x", "problems": 1}]])
def test_checks_of_databases_that_are_none_are_a_failure(server, monkeypatch, said):
    monkeypatch.setattr(databases, "_inspect", lambda *_arguments: said)
    with pytest.raises(TradekeepError, match="no check of a database"):
        databases.check_databases(server.application, PORTS)


# With as few rights as the units have

FEW_RIGHTS = """
import sys
sys.path[:0] = {paths!r}
sys.path.insert(0, {here!r})
import test_readers as tests
from pathlib import Path
server = tests.Server.__new__(tests.Server)
server.application = tests.pickled({pickle!r})
assert "CapEff:\\t00000000000000c0" in Path("/proc/self/status").read_text()
for outcome in (
    tests.verify(server.application),
    tests.verify(server.application, deep=True),
    tests.drill(server.application, tests.PORTS),
):
    print(int(outcome.status), *outcome.lines, sep="\\n")
"""


def pickled(path):
    import pickle

    return pickle.loads(Path(path).read_bytes())


def test_verify_and_drill_need_no_right_to_override_permissions(server, base):
    """Root keeps CAP_SETUID and CAP_SETGID alone: what is the bot's is read, written and removed in its name."""
    import pickle

    kept = base / "application"
    kept.write_bytes(pickle.dumps(server.application))
    text = FEW_RIGHTS.format(paths=sys.path, here=str(Path(__file__).parent), pickle=str(kept))
    rights = "-all,+setuid,+setgid"
    argv = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", sys.executable, "-B", "-c", text]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line in ("0", "1", "3")] == ["0"] * 3, done.stdout
    assert server.left() == []
