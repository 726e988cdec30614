#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""``make demo``: back up a bot while it trades, damage its data, restore it, deploy its code, and count.

Everything is below ``.cache/demo`` of the checkout (or ``$TRADEKEEP_DEMO``): no root, no network, no system file.
The playbooks are the collection's own, with ``inventories/demo``. Ends with 0 only when every fill that was committed
before the backup is there after the restore, and every one of before and during the deploys after those.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import bot
import damage
import upstream

TOP = Path(__file__).resolve().parents[1]
DIRECTORY = Path(os.environ.get("TRADEKEEP_DEMO") or TOP / ".cache" / "demo").resolve()
# A directory that this program may remove has this file in it.
MARKER = DIRECTORY / ".tradekeep-demo"
CODE = DIRECTORY / "trading_system"
ROOT = CODE / "user_data"
RECORD = DIRECTORY / "committed.jsonl"
TRADEKEEP = DIRECTORY / "bin" / "tradekeep"
FILLS_BEFORE_BACKUP = 200


class DemoFailure(Exception):
    """Something did not go as promised; the message says what."""


def main() -> int:
    """Run all steps; the bot never outlives them."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        prepare()
        build()
        before = back_up()
        verify()
        break_everything()
        find()
        restore()
        account(before)
        deploy()
    except DemoFailure as failure:
        print(f"\nFAILED: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the bot is stopped too", file=sys.stderr)
        return 130
    print(f"\n{time.monotonic() - started:.0f} seconds. Look around in {show(DIRECTORY)}; `make clean` removes it.")
    return 0


# The steps.


def prepare() -> None:
    """An empty directory of our own."""
    if DIRECTORY.exists() and not MARKER.exists() and any(DIRECTORY.iterdir()):
        raise DemoFailure(f"{DIRECTORY} exists and was not made by the demo; set TRADEKEEP_DEMO to another directory")
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    MARKER.touch()


def build() -> None:
    """The tree, the command, the configuration, and a key from the controller."""
    step("A bot's data tree, the tradekeep command and its configuration")
    key = f"-----BEGIN DEMO KEY-----\n{secrets.token_hex(24)}\n-----END DEMO KEY-----\n"
    variables = DIRECTORY / "credentials.json"
    variables.touch(mode=0o600)
    variables.write_text(json.dumps({"layout_credentials": [{"path": damage.CREDENTIAL, "content": key}]}))
    playbook("site", "-e", f"@{show(variables)}")


def back_up() -> list[dict[str, Any]]:
    """Back up while the bot trades; returns what it had committed before."""
    step("A backup while the bot trades (the database is open, its WAL never checkpointed)")
    with trading():
        wait_for_fills(FILLS_BEFORE_BACKUP)
        before = committed()
        playbook("backup", "-e", "backup_tier=daily")
        after = committed()
        wal = (ROOT / f"{bot.FILLS}-wal").stat().st_size
    print(f"  fills committed when it began: {len(before)}; when it ended: {len(after)}; WAL: {wal // 1024} KiB")
    if len(after) <= len(before):
        raise DemoFailure("the bot did not trade while the backup was made")
    return before


def verify() -> None:
    """Both doors to the same engine: the playbook and the command on the host."""
    step("Is it good? Every entry against the manifest, every database opened")
    playbook("verify", "-e", "verify_deep=true")
    tradekeep("list")


def break_everything() -> None:
    """The bot was killed; now its data suffers."""
    step("The bot is killed and its data damaged")
    for happen in damage.ALL:
        print(f"  {happen(ROOT)}")


def find() -> None:
    """What the command says about it."""
    step("What tradekeep finds")
    tradekeep("tree", expect=1)
    tradekeep("db", "check", "--full", expect=1)
    tradekeep("backup", "--tier", "daily", expect=3)
    print("  (a backup of such data is refused, and no old one is pruned for it)")
    tradekeep("restore", "latest", "--dry-run")


def restore() -> None:
    """As one transaction, with a safety backup of what is there now."""
    step("The restore")
    playbook("restore")
    tradekeep("tree", "--fix")
    tradekeep("db", "check", "--full")
    print("  and once more: nothing to do")
    playbook("restore")


def account(before: list[dict[str, Any]]) -> None:
    """Compare with what the bot noted, then let it trade on."""
    step("The account")
    fills = stored_fills()
    logged = {fill["id"]: fill for fill in read_lines(ROOT / bot.LOG)}
    state = json.loads((ROOT / bot.STATE).read_text(encoding="utf-8"))
    expect(count(before, fills) == len(before), f"{count(before, fills)} of {len(before)} fills are in fills.db")
    expect(count(before, logged) == len(before), f"{count(before, logged)} of {len(before)} fills are in fills.jsonl")
    expect(state["last_fill"] >= before[-1]["id"], f"system_state.json knows fill {before[-1]['id']}")
    expect((ROOT / damage.CREDENTIAL).stat().st_mode & 0o777 == 0o600, "the credential is back, for its owner only")
    with trading():
        wait_for_fills(len(committed()) + 10)
    expect(set(fills) < set(stored_fills()), f"the bot trades on after fill {max(fills)}")
    print(f"\nEvery one of the {len(before)} fills that were committed before the backup is there.")


def deploy() -> None:
    """A good release, a bad one and a careless one, while the bot trades in the very directory."""
    step("Deploys while the bot trades, its data in the midst of the code")
    if shutil.which("git") is None:
        print("  git is not installed; this part is left out")
        return
    source = upstream.Upstream(DIRECTORY / "upstream")
    source.create()
    before, log, earlier = stored_fills(), (ROOT / bot.LOG).stat(), len(committed())
    with trading():
        wait_for_fills(earlier + 10)
        # This program starts the bot, and no service that could be stopped: a deploy in place leaves its files alone.
        playbook("deploy", "-e", "deploy_force=true")
        good = source.push("count the fee", upstream.BETTER)
        tradekeep("deploy", "main", expect=3)
        print("  No service of the profile runs the bot, and it may write on: its files stay where they are.")
        tradekeep("deploy", "main", "--force")
        print("  Somebody pushes a release that does not run.")
        source.push("tidy up", upstream.BAD)
        tradekeep("deploy", "main", "--force", expect=3)
        print("  Somebody commits a log of fills from a test at home.")
        source.push("mend it", upstream.BETTER)
        source.track_data()
        tradekeep("deploy", "main", "--force", expect=3)
        during = committed()[earlier:]
    tradekeep("deploy", "--log")
    fills = stored_fills()
    logged = {fill["id"]: fill for fill in read_lines(ROOT / bot.LOG)}
    done = source.text(good, "strategy.py")
    expect(
        (CODE / "strategy.py").read_text(encoding="utf-8") == done, f"the code is that of {good[:12]}, the good release"
    )
    wanted = [*before.values(), *during]
    expect(count(wanted, fills) == len(wanted), f"{count(wanted, fills)} of {len(wanted)} fills are in fills.db")
    expect(
        count(during, logged) == len(during), f"{len(during)} of them were committed meanwhile, and are in fills.jsonl"
    )
    expect((ROOT / bot.LOG).stat().st_ino == log.st_ino, "fills.jsonl is the very file that it was")


# The bot.


@contextlib.contextmanager
def trading() -> Iterator[None]:
    """A bot that trades, and is killed in the end as the kernel kills for want of memory: nothing is closed."""
    command = [sys.executable, str(Path(bot.__file__)), str(ROOT), str(RECORD)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield
            if process.poll() is not None:
                raise DemoFailure(f"the bot ended by itself with {process.returncode}")
        finally:
            process.kill()


def wait_for_fills(number: int) -> None:
    """Until the bot has noted that many."""
    deadline = time.monotonic() + 60
    while len(committed()) < number:
        if time.monotonic() > deadline:
            raise DemoFailure("the bot does not trade")
        time.sleep(0.1)


def committed() -> list[dict[str, Any]]:
    """What the bot has noted as committed, whole lines."""
    return read_lines(RECORD) if RECORD.exists() else []


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The documents of a JSON Lines file, but for a last line that is being written."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def stored_fills() -> dict[int, dict[str, Any]]:
    """The fills in the live database."""
    with contextlib.closing(sqlite3.connect(ROOT / bot.FILLS)) as connection:
        connection.row_factory = sqlite3.Row
        return {row["id"]: dict(row) for row in connection.execute("SELECT * FROM fills")}


def count(wanted: list[dict[str, Any]], found: dict[int, dict[str, Any]]) -> int:
    """How many are found unchanged."""
    return sum(found.get(fill["id"]) == fill for fill in wanted)


# What is run and shown.


def playbook(name: str, *arguments: str) -> None:
    """Run one of the collection's playbooks; show what it changed and its recap."""
    command = ["ansible-playbook", f"tradekeep.ops.{name}", *arguments]
    print(f"  $ {' '.join(command)}", flush=True)
    done = run([str(Path(sys.executable).parent / command[0]), *command[1:]])
    if done.returncode:
        raise DemoFailure(f"{name} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    task = ""
    for line in done.stdout.splitlines():
        if line.startswith("TASK ["):
            task = line[len("TASK [") : line.rindex("]")]
        elif line.startswith("changed:"):
            print(f"  changed: {task.rpartition(' : ')[2]}")
        elif "failed=" in line:
            print(f"  {' '.join(line.split())}", flush=True)


def tradekeep(*arguments: str, expect: int = 0) -> None:
    """Run the on-host command; show what it says."""
    print(f"  $ {show(TRADEKEEP)} {' '.join(arguments)}", flush=True)
    done = run([str(TRADEKEEP), *arguments])
    for line in (done.stderr + done.stdout).splitlines():
        if not line.startswith("tradekeep: checking "):
            print(f"  {line.replace(str(TOP) + os.sep, '')}")
    if done.returncode:
        print(f"  (exit status {done.returncode})")
    if done.returncode != expect:
        raise DemoFailure(f"tradekeep {arguments[0]} ended with {done.returncode}, expected {expect}")


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """With all that Ansible leaves behind below our directory too."""
    ansible = DIRECTORY / "ansible"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment.update(
        ANSIBLE_CONFIG=str(TOP / "ansible.cfg"),
        ANSIBLE_INVENTORY=str(TOP / "inventories" / "demo"),
        ANSIBLE_HOME=str(ansible),
        ANSIBLE_LOCAL_TEMP=str(ansible / "tmp"),
        ANSIBLE_REMOTE_TEMP=str(ansible / "tmp"),
        ANSIBLE_ASYNC_DIR=str(ansible / "async"),
        ANSIBLE_NOCOLOR="1",
        TRADEKEEP_DEMO=str(DIRECTORY),
    )
    return subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True)


_numbers = itertools.count(1)


def step(title: str) -> None:
    """Begin a part of the output."""
    print(f"\n{next(_numbers)}. {title}", flush=True)


def expect(true: bool, what: str) -> None:
    """Say what was found; the demo fails when it is not so."""
    print(f"  {'ok' if true else 'NOT SO'}: {what}")
    if not true:
        raise DemoFailure(what)


def show(path: Path) -> str:
    """As it is written from the checkout."""
    return str(path.relative_to(TOP)) if path.is_relative_to(TOP) else str(path)


if __name__ == "__main__":
    sys.exit(main())
