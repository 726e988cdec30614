# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The units of backups, verifications and drills on real hosts: nothing leads out of them, and the work is done.

Each unit runs ``sandbox_probe.py`` in place of the program, as a taken-over one would run what it likes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Application, Encryption
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.key_pair import make_key_pair
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.unit_files import render_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.unit_sight import sandbox_root
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.program import build_program

TOP = Path(__file__).resolve().parents[2]
NSPAWN = TOP / "tests/hosts/nspawn.py"
CACHE = Path(os.environ.get("TRADEKEEP_CACHE") or Path.home() / ".cache" / "tradekeep-ops")
PROBE = "/usr/local/lib/sandbox_probe.py"
PLACES = {
    "data": "/home/trader/data",
    "mounted": "/home/trader/data/mounted",
    "backups": "/opt/backups/bot",
    "state": "/var/lib/tradekeep/bot",
}
UNITS = ("tradekeep-backup-bot-daily", "tradekeep-verify-bot", "tradekeep-drill-bot")
NOTHING = "0000000000000000"
CAPABILITIES = "00000000000000e0"
"""KILL, SETGID, SETUID."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run hosts"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="needs systemd-nspawn: tests/hosts/prepare"),
]


class Server:
    """A host with systemd, its files in reach."""

    def __init__(self, release: str) -> None:
        self.release = release
        self.name = f"sandbox-{release}"
        self._nspawn("up", self.name, "--image", release, "--fresh")
        hosts = CACHE / "hosts"
        self.root = hosts / self.name / "root"
        facts = json.loads((hosts / self.name / "host.json").read_text())
        self._ssh = ["ssh", "-q", "-i", hosts / "id_ed25519", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        self._ssh += ["-o", f"UserKnownHostsFile={hosts / self.name / 'known_hosts'}", f"root@{facts['address']}"]

    def _nspawn(self, *words: str) -> None:
        done = subprocess.run([sys.executable, NSPAWN, *words], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.fail(done.stderr)

    def run(self, script: str, *, check: bool = True) -> str:
        """What a script of root's says on the host."""
        done = subprocess.run([*self._ssh, script], capture_output=True, text=True, timeout=300)
        if check and done.returncode != 0:
            pytest.fail(f"{script}: {done.stdout}{done.stderr}")
        return done.stdout

    def put(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """A file on the host."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        place.chmod(mode)

    def remove(self) -> None:
        """Delete the host."""
        self._nspawn("down", self.name)


def application(name: str, root: str, recipient: str) -> Application:
    """One of two on the host."""
    profile = {
        "name": name,
        "components": {"data": {"paths": ["documents"], "directory_mode": "0755", "file_mode": "0644"}},
        "root_mode": "0755",
        "schedules": [{"tier": "daily", "calendar": "02:00"}],
        "retention": {"daily": 1},
    }
    made = resolve_application(profile, root=root, owner="trader", backup_dir=f"/opt/backups/{name}")
    return dataclasses.replace(made, encryption=Encryption(recipients=(recipient,)))


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A host with an application, a neighbour, and secrets of root's."""
    made = Server(request.param)
    try:
        set_up(made)
        yield made
    finally:
        made.remove()


def set_up(server: Server) -> None:
    server.run(
        """
        set -e
        useradd --create-home trader
        chmod 0700 /home/trader
        install -d -o trader /home/trader/data /home/trader/data/documents /home/trader/data/mounted
        install -d /opt/other/data
        mount -t tmpfs -o mode=0755,uid=trader none /home/trader/data/mounted
        echo '{"a": 1}' > /home/trader/data/documents/one.json
        install -d -m 0700 /opt/backups/bot /opt/backups/other /var/lib/tradekeep/other
        install -d -m 0755 /var/lib/tradekeep/mirrors
        install -d -m 0711 /var/lib/tradekeep/bot
        echo secret | tee /root/secret /opt/backups/other/backup > /dev/null
        gpg --batch --quiet --passphrase '' --quick-gen-key operator@example.org default default never
        """
    )
    fingerprint = server.run("gpg --with-colons --list-keys operator@example.org | awk -F: '/^fpr/ {print $10; exit}'")
    recipient = fingerprint.strip()
    ours, other = application("bot", PLACES["data"], recipient), application("other", "/opt/other", recipient)
    server.put("/usr/local/bin/tradekeep", build_program(), 0o755)
    for item in (ours, other):
        server.put(str(item.config_file), render_configuration(item), 0o600)
        public, secret = make_key_pair(f"tradekeep host key of {item.name}", SubprocessRunner())
        server.put(str(item.host_public_key), public, 0o600)
        server.put(str(item.host_secret_key), secret, 0o600)
        server.run(f"chmod 0700 {item.host_key_dir.parent} {item.host_key_dir}")
    server.put(PROBE, (Path(__file__).parent / "sandbox_probe.py").read_text())
    server.put("/etc/systemd/system/bot-probe.service", "[Service]\nExecStart=/bin/touch /root/taken\n")
    for name, text in render_units(ours).items():
        server.put(f"/etc/systemd/system/{name}", text)
    server.run(f"install -d -m 0755 {sandbox_root(ours).parent} {sandbox_root(ours)}; systemctl daemon-reload")
    listener = "import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('\\0tradekeep-probe'); s.listen(); "
    server.run(f'systemd-run --quiet --unit=listener python3 -c "{listener}time.sleep(9999)"')
    server.run("systemctl start supervisor")


@pytest.fixture(scope="module", params=UNITS)
def probed(server: Server, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the probe tells from within a unit."""
    places = json.dumps(list(PLACES.values())).replace('"', '\\"')
    start = f'/usr/bin/python3 -IXutf8 {PROBE} {PLACES["state"]} trader "{places}"'
    server.put(
        f"/etc/systemd/system/{request.param}.service.d/probe.conf",
        textwrap.dedent(f"""\
            [Unit]
            OnFailure=
            [Service]
            ExecStart=
            ExecStart={start}
            """),
    )
    server.run(f"rm -f {PLACES['state']}/probe.json; systemctl daemon-reload")
    server.run(f"timeout 120 systemctl start {request.param}; journalctl -u {request.param} -n 30 -o cat", check=False)
    server.run(f"rm -r /etc/systemd/system/{request.param}.service.d; systemctl daemon-reload")
    said = server.run(f"cat {PLACES['state']}/probe.json || journalctl -u {request.param} -n 30 -o cat")
    return {"unit": request.param, **json.loads(said)}


MAY_BE_DONE = {
    # What reads archives has what opens them.
    "tradekeep-verify-bot": {"a look at root's secret keys", "a look at the host's secret key"},
    "tradekeep-drill-bot": {"a look at the host's secret key"},
}


def test_nothing_leads_out_of_the_unit(server: Server, probed: dict[str, Any]) -> None:
    """Neither for a taken-over process of root's in there, nor for the one that reads what is the bot's."""
    allowed = MAY_BE_DONE.get(probed["unit"], set())
    done = [name for name, said in probed["attempts"].items() if said == "done"]
    assert set(done) <= allowed
    assert [name for name, said in probed["attempts_of_owner"].items() if said == "done"] == []
    assert server.run("cat /root/taken; systemctl is-active bot-probe bot", check=False).split() == ["inactive"] * 2


def test_there_is_nothing_but_the_application(probed: dict[str, Any]) -> None:
    assert set(probed["etc"]) <= {
        *("alternatives", "gcrypt", "group", "ld.so.cache", "localtime", "nsswitch.conf", "passwd", "tradekeep"),
    }
    backup, drill = "backup" in probed["unit"], "drill" in probed["unit"]
    assert probed["visible"] == {
        PLACES["data"]: backup or drill,
        PLACES["mounted"]: backup or drill,
        PLACES["backups"]: True,
        PLACES["state"]: True,
    }


def test_only_the_owner_writes_to_the_data_and_only_a_backup_to_the_backups(probed: dict[str, Any]) -> None:
    def can(what: str) -> list[str]:
        return sorted(name for name, path in PLACES.items() if probed[what][path] == "done")

    seen = [] if "verify" in probed["unit"] else ["data", "mounted"]
    assert can("writable") == seen
    assert can("writable_to_root") == (["backups", "state"] if "backup" in probed["unit"] else ["state"])


def test_the_process_has_the_rights_to_become_the_owner_and_to_end_his_processes(probed: dict[str, Any]) -> None:
    assert (probed["rights"]["CapEff"], probed["rights"]["CapBnd"]) == (CAPABILITIES, CAPABILITIES)
    assert probed["rights"]["NoNewPrivs"] == "1"
    assert probed["owner"]["CapEff"] == probed["owner"]["CapPrm"] == NOTHING
    assert set(probed["owner"]["Uid"].split()) == set(probed["owner"]["Gid"].split()) and "0" not in probed["owner"][
        "Groups"
    ].split(" ")
    own, started, became = probed["dropped"]
    assert (own, started) == (NOTHING, NOTHING), "a program that uid 0 starts must not get them back"
    assert "not permitted" in became
    assert probed["ended"] == "9"
    assert probed["files_as"][0] == 0 and probed["files_as"][1] == int(probed["owner"]["Uid"].split()[0])
    assert (probed["files_as"][2], probed["cores"], probed["flags"]) == (0, 0, [1, 1])


def test_what_the_engine_starts_works(probed: dict[str, Any]) -> None:
    assert probed["compressed"] == "good\nday\n"
    assert probed["zone"] == "UTC" and probed["name"].startswith("sandbox-")
    if "drill" not in probed["unit"]:
        assert probed["key"].startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")


def test_the_program_does_its_work_in_the_units(server: Server) -> None:
    """Two backups with a prune each, a verification and a drill, which have the host's own key."""
    for unit in (UNITS[0], UNITS[0], *UNITS[1:]):
        server.run(f"systemctl start {unit} || {{ journalctl -u {unit} -n 50 -o cat >&2; exit 1; }}")
    listed = json.loads(server.run("tradekeep --config /etc/tradekeep/bot.json --json list"))["record"]["backups"]
    assert [item["verified_level"] for item in listed] == ["deep"]
    assert [item["opens_with"][1:] for item in listed] == [["this host"]]
    drills = json.loads(server.run("tradekeep --config /etc/tradekeep/bot.json --json drill --log"))["record"]["drills"]
    assert [item["verdict"] for item in drills] == ["passed"]


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_little_exposed(server: Server, unit: str) -> None:
    """The threshold counts tenths."""
    server.run(f"systemd-analyze security --no-pager --threshold=12 {unit}.service")


def test_a_directory_that_is_missing_is_said(server: Server) -> None:
    server.run("mv /opt/backups/bot /opt/backups/away")
    try:
        said = server.run(f"systemctl start {UNITS[0]}; journalctl -u {UNITS[0]} -n 20 -o cat", check=False)
    finally:
        server.run("mv /opt/backups/away /opt/backups/bot; systemctl reset-failed")
    assert "/opt/backups/bot" in said and "No such file" in said


def hook(at: str, script: str) -> dict[str, Any]:
    return {"at": at, "command": ["/bin/sh", "-c", script]}


REACHES = """
id -un
sudo -n id -un
sudo -n systemctl start bot-other.service
sudo -n touch /srv/by-sudo
touch ~/by-hook
"""
TRIES = """
exec 2>&1
for path in /etc/cron.d/taken /usr/bin/taken /boot/taken /opt/backups/other/taken /var/lib/tradekeep/other/taken; do
    sudo -n touch $path && echo TAKEN $path
done
sudo -n cat /opt/backups/other/backup && echo TAKEN other
sudo -n sh -c 'echo 1 > /proc/sys/kernel/panic' && echo TAKEN sysctl
sudo -n mknod /tmp/taken b 254 0 && echo TAKEN device
sudo -n mount -t tmpfs none /mnt && echo TAKEN mount
ls /dev/kmsg /dev/net && echo TAKEN devices
grep 'Max core file size *0 *0' /proc/self/limits || echo TAKEN core
true
"""


def test_a_deploy_reaches_what_it_needs_and_not_the_others(server: Server) -> None:
    """Its hooks are the bot's own programs, and may use sudo where root allows it: what they can spoil is bounded."""
    profile = {
        "name": "dep",
        "home": "/opt/dep",
        "components": {"data": {"paths": ["documents"]}},
        "services": [{"manager": "systemd", "units": ["depbot.service"], "stay_up_seconds": 1}],
        "deploy": {
            "directory": "/opt/dep",
            "repository": "file:///srv/dep.git",
            "hooks": [hook("after_stop", REACHES), hook("before_start", TRIES)],
        },
    }
    made = resolve_application(profile, root="/opt/dep/data", owner="trader", backup_dir="/opt/dep-backups")
    server.put(str(made.config_file), render_configuration(made), 0o600)
    server.put("/etc/systemd/system/depbot.service", "[Service]\nUser=trader\nExecStart=/bin/sleep 9999\n")
    server.put("/etc/systemd/system/bot-other.service", "[Service]\nType=oneshot\nExecStart=/bin/touch /run/other\n")
    server.put("/etc/sudoers.d/trader", "trader ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    server.run(
        """
        set -e
        git init -q -b main /srv/work
        cd /srv/work
        git config user.email bot@example.org
        git config user.name bot
        echo data/ > .gitignore
        echo 1 > bot.py
        git add -A
        git commit -qm one
        git clone -q --bare /srv/work /srv/dep.git
        git clone -q /srv/dep.git /opt/dep
        echo 2 > bot.py
        git commit -qam two
        git push -q /srv/dep.git main
        mkdir -p /opt/dep/data/documents
        chown -R trader:trader /srv/dep.git /opt/dep
        systemctl daemon-reload
        systemctl start depbot
        """
    )
    said = server.run("tradekeep --app dep --json deploy main 2>&1; true")
    told = server.run("cat /var/lib/tradekeep/dep/deploy/records/*/*.log")
    assert server.run("cat /opt/dep/bot.py; systemctl is-active depbot").split() == ["2", "active"], said + told
    assert "TAKEN" not in told
    assert told.count("Read-only file system") >= 3
    assert {"trader", "root"} <= set(told.split())
    server.run("ls /srv/by-sudo /home/trader/by-hook /run/other")
    assert server.run("cat /opt/backups/other/backup") == "secret\n"


LOCKS = """\
import sqlite3, time
bot = sqlite3.connect("/opt/locked/data/fills.db", isolation_level=None)
bot.execute("pragma locking_mode=exclusive")
bot.execute("create table if not exists fills (id integer primary key)")
while True:
    bot.execute("insert into fills values (null)")
    time.sleep(0.1)
"""


def test_a_bot_that_keeps_its_database_locked_is_stopped_for_the_backup_and_runs_again(server: Server) -> None:
    """Also where the backup is killed meanwhile."""
    profile = {
        "name": "locked",
        "components": {"data": {"paths": ["data"]}},
        "schedules": [{"tier": "daily", "calendar": "02:00"}],
        "retention": {"daily": 3},
        "services": [{"manager": "systemd", "units": ["lockedbot.service"], "stop_for_backup": True}],
    }
    made = resolve_application(profile, root="/opt/locked", owner="trader", backup_dir="/opt/locked-backups")
    server.put(str(made.config_file), render_configuration(made), 0o600)
    server.put("/opt/locked/bot.py", LOCKS)
    server.put(
        "/etc/systemd/system/lockedbot.service",
        "[Service]\nUser=trader\nExecStart=/usr/bin/python3 /opt/locked/bot.py\n",
    )
    for name, text in render_units(made).items():
        server.put(f"/etc/systemd/system/{name}", text)
    unit = "tradekeep-backup-locked-daily"
    server.run(
        """
        set -e
        install -d -o trader -g trader /opt/locked/data
        chown trader: /opt/locked
        install -d -m 0700 /opt/locked-backups /var/lib/tradekeep/locked
        systemctl daemon-reload
        systemctl start lockedbot
        until test -s /opt/locked/data/fills.db; do sleep 0.1; done
        """
    )
    invocation = "systemctl show -P InvocationID lockedbot"
    before = server.run(invocation)
    server.run(f"systemctl start {unit} || {{ journalctl -u {unit} >&2; exit 1; }}")
    assert server.run("systemctl is-active lockedbot") == "active\n"
    assert server.run(invocation) != before
    (backup,) = json.loads(server.run("tradekeep --app locked --json list"))["record"]["backups"]
    assert backup["good"] and backup["tier"] == "daily"
    # The last thing that is seen before the kill is that the bot has gone.
    server.run(
        f"""
        set -e
        systemctl start --no-block {unit}
        until test "$(systemctl is-active lockedbot)" = inactive; do :; done
        systemctl kill -s KILL {unit}
        for _ in $(seq 600); do
            systemctl -q is-active lockedbot && test ! -e /var/lib/tradekeep/locked/stopped.json && exit 0
            sleep 0.1
        done
        journalctl -u {unit} -u tradekeep-recover-locked >&2
        exit 1
        """
    )
