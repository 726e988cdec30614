# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A bot moves from one server to another while it trades: nothing is lost, and it never runs twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CommandError
from operations_handover.conftest import pair
from operations_handover.fake_systemd import BOT, MachineRunner, start_bot, stop_bot
from operations_handover.servers import LARGE, PREFERENCES, Pair, Server

__all__ = ["pair"]


def test_hazard_e1_a_bot_moves_while_it_trades(pair: Pair) -> None:
    done = pair.take()
    assert done.returncode == 0, done.stderr + done.stdout
    record = json.loads(done.stdout)["record"]
    assert record["state"] == "migrated"
    assert pair.alive == ["new"]
    assert pair.old.masked and not pair.new.masked
    assert pair.old.fence is not None and pair.old.fence["migration"]["id"] == record["id"]
    assert pair.new.fence is None
    pair.check_never_two()
    assert (pair.new.root / LARGE).read_bytes() == (pair.old.root / LARGE).read_bytes()
    assert (pair.new.root / PREFERENCES).read_text() == '{"position_size": 3}'
    before = pair.promised
    pair.wait(lambda: pair.promised > before)
    pair.check_nothing_lost(pair.new)


def test_hazard_e1_a_stray_file_with_the_name_of_a_database_moves_as_it_is(pair: Pair) -> None:
    """A Mac's notes on a file, and the database of another engine."""
    place = (pair.old.root / LARGE).parent
    strays = {place / "._fills.db": b"\0\5\x16\7" + bytes(200), place / "lake.db": bytes(8) + b"DUCK" + bytes(4000)}
    for path, content in strays.items():
        path.write_bytes(content)
    done = pair.take()
    assert done.returncode == 0, done.stderr + done.stdout
    for path, content in strays.items():
        assert (pair.new.root / path.relative_to(pair.old.root)).read_bytes() == content


def listing(top: Path) -> dict[str, Any]:
    """All that lies below a directory, but for what a running bot writes."""
    return {
        str(path.relative_to(top)): (path.lstat().st_mode, path.lstat().st_mtime_ns if path.is_file() else 0)
        for path in top.rglob("*")
        if path.name not in ("fills.db-wal", "fills.db-shm", "fills.db", "trades.jsonl", "steps", "lock", "bot.pid")
    }


def test_hazard_e1_the_same_again_changes_nothing_and_the_way_back_is_the_same(pair: Pair) -> None:
    assert pair.take().returncode == 0
    again = pair.take()
    assert (again.returncode, json.loads(again.stdout)["changed"]) == (0, False), again.stderr
    assert pair.alive == ["new"]
    pair.wait(lambda: pair.new.state.joinpath("handover.json").exists())
    # Its own data stands on the old server: that is to be replaced, and is said first.
    refused = pair.old.run("take", source=str(pair.new.base))
    assert refused.returncode == 3
    assert "differs on this host" in refused.stdout
    assert pair.alive == ["new"] and pair.old.fence is not None and pair.old.masked
    back = pair.old.run("take", source=str(pair.new.base), force=True)
    assert back.returncode == 0, back.stderr
    assert pair.alive == ["old"]
    assert pair.old.fence is None and not pair.old.masked
    assert pair.new.fence is not None and pair.new.masked
    pair.check_never_two()
    pair.check_nothing_lost(pair.old)


def test_hazard_e1_a_new_server_that_runs_something_is_refused(pair: Pair) -> None:
    stop_bot(pair.old.base)
    start_bot(pair.new.base)
    done = pair.take()
    assert done.returncode == 3
    assert "two live copies of one bot trade twice" in done.stderr
    assert pair.new.fence is None and pair.old.fence is None
    assert pair.alive == ["new"]


def test_hazard_e1_a_source_that_was_moved_elsewhere_is_refused(pair: Pair, tmp_path: Path) -> None:
    assert pair.take().returncode == 0
    third = Server(tmp_path / "third")
    done = third.run("take", source=str(pair.old.base))
    assert done.returncode == 3
    assert "what is here is not the live data" in done.stderr
    assert pair.alive == ["new"]


def test_hazard_e1_a_source_that_writes_on_does_not_let_go(pair: Pair) -> None:
    """Something that no service of the profile stops: what it writes would be lost."""
    with (pair.old.root / "state" / "other.log").open("ab", buffering=0) as other:
        os.set_inheritable(other.fileno(), True)
        done = pair.take()
    assert done.returncode == 3
    assert "its services do not stop that" in done.stderr
    pair.wait(lambda: pair.alive == ["old"])
    assert pair.old.fence is None and pair.new.fence is None
    pair.check_never_two()


def test_hazard_e1_a_source_whose_systemd_does_not_listen_is_not_stopped(pair: Pair) -> None:
    """It would not see the masks, nor that the bot asks for a key."""
    (pair.old.base / "reload_fails_once").touch()
    done = pair.take()
    assert done.returncode == 3, done.stderr
    assert "on the source: failed with exit status 1" in done.stderr
    assert "serve stop" not in pair.steps(pair.old)
    pair.wait(lambda: pair.alive == ["old"])
    assert pair.old.fence is None and not pair.old.masked and pair.new.fence is None
    pair.check_never_two()


def shown_but_not_started(server: Server) -> str:
    """What systemd shows of a bot that it refuses to start for want of a key."""
    systemctl = MachineRunner(server.base)
    with pytest.raises(CommandError, match="Assertion failed"):
        systemctl.run(["systemctl", "start", "--", BOT])
    return systemctl.run(["systemctl", "show", "--", BOT]).stdout


def test_hazard_e1_a_source_that_is_to_let_go_cannot_be_started_again(pair: Pair) -> None:
    """Its systemd has not seen the masks, and is not waited for."""
    with subprocess.Popen(
        pair.new_command(serve={"step": "serve granted#1", "signal": int(signal.SIGSTOP)}),
        stderr=subprocess.PIPE,
        text=True,
    ) as taking:
        pair.wait(lambda: pair.steps(pair.old).endswith("serve granted#1\n"))
        try:
            shown = shown_but_not_started(pair.old)
        finally:
            pair.go_on("serve")
        _out, said = taking.communicate(timeout=60)
    assert taking.returncode == 0, said
    assert "LoadState=loaded" in shown
    assert pair.alive == ["new"] and pair.old.masked
    # Then it has; and what asked for the key is gone.
    pair.wait(lambda: list((pair.old.base / "runtime").rglob("*.conf")) == [])
    assert "LoadState=masked" in MachineRunner(pair.old.base).run(["systemctl", "show", "--", BOT]).stdout
    pair.check_never_two()


def test_hazard_e1_what_is_written_after_the_stop_is_not_left_behind(pair: Pair) -> None:
    """Between the last difference and the grant somebody touches the source: it does not let go."""
    done = pair.take(touch=str(pair.old.root / PREFERENCES), touch_at="ask to let go#1")
    assert done.returncode == 3, done.stderr
    assert "was written after the services were stopped" in done.stderr
    pair.wait(lambda: pair.alive == ["old"])
    pair.check_never_two()


def test_hazard_e2_a_signal_to_the_new_server_undoes_it(pair: Pair) -> None:
    done = pair.take(step="exchange#1", signal=int(signal.SIGTERM))
    assert done.returncode == 3, done.stderr
    assert pair.new.fence is None and pair.new.note == "undone"
    pair.wait(lambda: pair.alive == ["old"])
    assert pair.old.fence is None
    assert not (pair.new.root / LARGE).exists()
    pair.check_never_two()
    pair.check_nothing_lost(pair.old)


def test_hazard_e1_what_is_ready_to_start_cannot_be_started_yet(pair: Pair) -> None:
    """No mask that systemd has seen holds it back any more, and the source has not let go."""
    with subprocess.Popen(
        pair.new_command(step="ask to let go#1", signal=int(signal.SIGSTOP)), stderr=subprocess.PIPE, text=True
    ) as taking:
        pair.wait(lambda: pair.steps(pair.new).endswith("ask to let go#1\n"))
        try:
            shown = shown_but_not_started(pair.new)
            masked = pair.new.masked
        finally:
            os.kill(taking.pid, signal.SIGCONT)
        _out, said = taking.communicate(timeout=60)
    assert taking.returncode == 0, said
    assert masked and "LoadState=loaded" in shown
    assert pair.alive == ["new"] and not pair.new.masked
    assert list((pair.new.base / "runtime").iterdir()) == []
    pair.check_never_two()


def test_hazard_e2_a_new_server_that_hangs_is_given_up(pair: Pair) -> None:
    """Stopped, not dead: no end of the connection is ever seen. The source goes on, and never lets go any more."""
    with subprocess.Popen(
        pair.new_command(step="ask to let go#1", signal=int(signal.SIGSTOP), silence=3),
        stderr=subprocess.PIPE,
        text=True,
    ) as taking:
        pair.wait(lambda: pair.alive == [] and pair.steps(pair.new).endswith("ask to let go#1\n"))
        pair.wait(lambda: pair.alive == ["old"])
        os.kill(taking.pid, signal.SIGCONT)
        _out, said = taking.communicate(timeout=60)
    assert taking.returncode == 3, said
    assert pair.alive == ["old"] and pair.new.fence is None
    pair.check_never_two()
    pair.check_nothing_lost(pair.old)


def test_hazard_e3_a_bot_that_does_not_start_is_given_back(pair: Pair) -> None:
    (pair.new.base / "refuses").touch()
    done = pair.take()
    assert done.returncode == 3, done.stderr
    assert pair.alive == ["old"]
    assert pair.old.fence is None and not pair.old.masked
    assert pair.new.fence is None and pair.new.note == "undone"
    assert not (pair.new.root / LARGE).exists()
    pair.check_never_two()
    pair.check_nothing_lost(pair.old)
    (pair.new.base / "refuses").unlink()
    assert pair.take().returncode == 0


def test_hazard_e3_nothing_can_be_started_while_the_old_data_is_put_back(pair: Pair) -> None:
    """The guard was passed over for the start that failed; nothing may be started past it on half of the data."""
    (pair.new.base / "refuses").touch()
    with subprocess.Popen(
        pair.new_command(step="take back#1", signal=int(signal.SIGSTOP)), stderr=subprocess.PIPE, text=True
    ) as taking:
        pair.wait(lambda: pair.steps(pair.new).endswith("take back#1\n"))
        try:
            (pair.new.base / "refuses").unlink()
            with pytest.raises(CommandError, match="Assertion failed"):
                MachineRunner(pair.new.base).run(["systemctl", "start", "--", BOT])
            keys = list((pair.new.base / "runtime").rglob("*.open"))
            guards = [path.parent.name for path in (pair.new.base / "runtime").rglob("*.conf")]
        finally:
            os.kill(taking.pid, signal.SIGCONT)
        _out, said = taking.communicate(timeout=60)
    assert taking.returncode == 3, said
    assert keys == [] and "tradekeep-guard-kalshi.service.d" in guards
    pair.wait(lambda: pair.alive == ["old"])
    assert list((pair.new.base / "runtime").iterdir()) == []
    pair.check_never_two()


def test_hazard_e3_what_was_moved_can_be_given_back_by_hand(pair: Pair) -> None:
    done = pair.take()
    identifier = json.loads(done.stdout)["record"]["id"]
    assert pair.new.run("fence").returncode == 0
    assert pair.old.run("unfence", migration="0" * 16).returncode == 0
    assert pair.alive == []
    given_back = pair.old.run("unfence", migration=identifier)
    # Whoever names the migration has seen to the other server.
    assert (given_back.returncode, given_back.stderr) == (0, "")
    assert pair.alive == ["old"]
    pair.check_never_two()


def test_hazard_e2_a_new_server_that_dies_before_it_knows_is_given_up_by_hand(pair: Pair) -> None:
    """The old one has let go, the new one has not noted it: nothing runs until a person says where."""
    assert pair.take(step="let go#1").returncode == -9
    assert pair.old.fence is not None and "provisional" not in pair.old.fence
    assert pair.alive == []
    # What systemd runs after a boot, on both.
    assert pair.new.run("recover").returncode == 0
    assert pair.old.run("recover").returncode == 0
    assert pair.alive == [] and pair.new.fence is None
    looked = pair.old.run("unfence", dry_run=True)
    assert "cannot know whether it runs there" in looked.stderr and "first run there: tradekeep" in looked.stderr
    assert pair.alive == []
    done = pair.old.run("unfence")
    assert done.returncode == 0 and "first run there: tradekeep" in done.stderr, done.stderr
    assert pair.alive == ["old"] and pair.old.fence is None
    # Nor does the new one begin of its own accord when it is back.
    assert pair.new.run("recover").returncode == 0
    assert pair.alive == ["old"]
    pair.check_never_two()
    assert pair.take().returncode == 0
    pair.check_never_two()
    pair.check_nothing_lost(pair.new)


def test_hazard_e5_looking_ahead_writes_nothing_on_either(pair: Pair) -> None:
    pair.new.run("recover")  # makes its state directory
    pair.take(step="pre-copy#1", signal=int(signal.SIGTERM))  # and both their names
    before = listing(pair.old.base), listing(pair.new.base)
    done = pair.new.run("look", source=str(pair.old.base))
    assert done.returncode == 0, done.stderr
    assert (listing(pair.old.base), listing(pair.new.base)) == before
    plan = json.loads(done.stdout)["record"]["plan"]
    assert LARGE in plan["new"] and PREFERENCES in plan["here_too"]
    assert pair.alive == ["old"]


def test_hazard_e5_looking_ahead_finds_what_the_migration_refuses(pair: Pair) -> None:
    writes = "import sys; f = open(sys.argv[1], 'a'); print(1, flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", writes, str(pair.new.root / "preferences/own.json")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        looked = pair.new.run("look", source=str(pair.old.base))
        assert looked.returncode == 3, looked.stdout
        assert f"(process {writer.pid}) writes {pair.new.root}/preferences/own.json" in looked.stderr
        writer.stdin.close()
    (pair.new.root / "preferences/own.json").unlink()
    assert pair.take().returncode == 0
    again = pair.new.run("look", source=str(pair.old.base))
    assert (again.returncode, json.loads(again.stdout)["record"]["state"]) == (0, "unchanged"), again.stderr


def test_hazard_e5_data_of_the_new_server_is_not_merged_over(pair: Pair) -> None:
    own = pair.new.root / "preferences/own.json"
    own.write_text('{"kept": true}')
    before = listing(pair.new.root)
    refused = pair.take()
    assert refused.returncode == 3
    assert "preferences/own.json: is on this host only" in refused.stdout
    assert {
        path: facts for path, facts in listing(pair.new.root).items() if ".tradekeep-arriving" not in path
    } == before
    assert pair.alive == ["old"] and pair.old.fence is None and pair.new.fence is None
    assert pair.steps(pair.old).count("serve stop") == 0
    forced = pair.take(force=True)
    assert forced.returncode == 0, forced.stderr
    assert not own.exists()
    assert any("before_migrate" in path.name for path in (pair.new.base / "backups").iterdir())
    assert (pair.new.root / LARGE).stat().st_mode & 0o777 == (pair.old.root / LARGE).stat().st_mode & 0o777


def test_hazard_e5_nothing_is_more_open_than_the_profile_says(pair: Pair) -> None:
    pem = pair.old.root / "credentials/kalshi/demo/kalshi.json"
    pem.write_text('{"key": "x"}')
    pem.chmod(0o644)
    (pair.old.root / PREFERENCES).chmod(0o666)
    (pair.old.root / LARGE).chmod(0o700)
    assert pair.take().returncode == 0
    assert (pair.new.root / "credentials/kalshi/demo/kalshi.json").stat().st_mode & 0o777 == 0o600
    assert (pair.new.root / PREFERENCES).stat().st_mode & 0o777 == 0o644
    assert (pair.new.root / LARGE).stat().st_mode & 0o777 == 0o700
    assert not list(pair.new.root.glob(".tradekeep*"))


def test_what_is_installed_on_a_fenced_server_is_masked_too(pair: Pair) -> None:
    unit = pair.old.base / "units" / BOT
    text = unit.read_text()
    unit.unlink()
    assert pair.old.run("fence").returncode == 0
    unit.write_text(text)
    assert not pair.old.masked
    done = pair.old.run("units")
    assert done.returncode == 0, done.stderr
    assert pair.old.masked


def test_a_second_attempt_brings_only_what_is_lacking(pair: Pair) -> None:
    assert pair.take(serve={"step": "serve final#1"}).returncode == 3
    pair.wait(lambda: pair.alive == ["old"])
    done = pair.take()
    assert done.returncode == 0, done.stderr
    moved = json.loads(done.stdout)["record"]["handover"]["bytes"]
    assert moved["pre-copy 1"] < 200_000 < json.loads(done.stdout)["record"]["holds"]["bytes"]
