# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Drills against tar alone, and a whole server from a bare Debian."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import Subject, interleaved

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
HOST = "benchnew13"
SECONDS, DRILL_RATIO = 300.0, 2.5
EXTRA_BYTES = 200_000_000
Row = dict[str, Any]
UNIT = """[Service]
User=trading_user
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""
PROFILE = {
    "extends": "kalshi",
    "services": [{"manager": "systemd", "units": ["trading_system.service"], "stay_up_seconds": 3}],
    "deploy": {"requires": []},
    "schedules": [{"tier": "daily", "calendar": "*-*-* 02:00:00"}],
}


def drill_rows(ours: Any, scratch: Path, rounds: int, row: Any) -> list[Row]:
    """A drill of a backup of 800 MB, every database opened and compared, against unpacking the same archive."""
    archive = _backup(ours)
    place = scratch / "unpacked"

    def empty() -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()

    runs = interleaved(
        [
            Subject("tar xzf", f"tar xzf {archive} -C {place}", empty),
            Subject("isal", ours.run("isal", "drill", "latest")),
            Subject("zlib", ours.run("zlib", "drill", "latest")),
        ],
        rounds,
    )
    shutil.rmtree(place)
    record = json.loads(sorted((scratch / "state/drill/drills").glob("*.json"))[-1].read_text())
    print(f"  drill: {record['verdict']}, {record['phases']}", flush=True)
    return [
        row("drill, isal", runs["isal"], runs["tar xzf"], "tar xzf of the same archive", DRILL_RATIO),
        row("drill, zlib", runs["zlib"], runs["tar xzf"], "tar xzf of the same archive", None),
    ]


def whole_gigabyte(tree: Path, scratch: Path) -> Path:
    """The tree of 800 MB, and a file of 200 MB that does not compress."""
    place = scratch / "gigabyte"
    shutil.copytree(tree, place, copy_function=os.link)
    (place / "state").mkdir(exist_ok=True)
    (place / "state" / "history.bin").write_bytes(os.urandom(EXTRA_BYTES))
    return place


def recover_rows(ours: Any, scratch: Path, fact: Any) -> list[Row]:
    """A server with 1 GB, from a Debian without even a Python: the phases of one run."""
    sys.path.insert(0, str(TOP / "tests" / "hosts"))
    from relay import relaying

    archive = _backup(ours)
    hosts = [sys.executable, str(TOP / "tests" / "hosts" / "nspawn.py")]
    subprocess.run([*hosts, "up", HOST, "--image=trixie", "--variant=bare", "--fresh"], check=True)
    try:
        with relaying() as packages:
            _strip(hosts, packages)
            record = _recover(archive, scratch)
    finally:
        subprocess.run([*hosts, "down", HOST], check=True)
    total = record["rto"]["seconds"]
    phases = ", ".join(f"{phase['name']} {phase['seconds']:.1f} s" for phase in record["phases"])
    print(f"  recovery: {record['state']}, {phases}", flush=True)
    met = record["state"] == "recovered" and total < SECONDS
    return [fact(f"recovery of 1 GB onto a bare host: {phases}", f"{total:.0f} s", f"< {SECONDS:.0f} s", met)]


def _backup(ours: Any) -> Path:
    subprocess.run(ours.run("isal", "backup"), check=True, stdout=subprocess.DEVNULL)
    return max(path for path in ours.backups.glob("*.tar.gz") if not path.is_symlink())


def _strip(hosts: list[str], packages: str) -> None:
    """Nothing that a new server might not have either; and the way to the packages."""
    said = subprocess.run([*hosts, "inventory"], check=True, capture_output=True, text=True).stdout
    host = json.loads(said)["_meta"]["hostvars"][HOST]
    away = "apt-get -qq --yes purge python3-apt python3 python3-minimal python3.13-minimal"
    proxy = f"echo 'Acquire::http::Proxy \"{packages}\";' > /etc/apt/apt.conf.d/95relay"
    options = [*host["ansible_ssh_common_args"].split(), "-i", host["ansible_ssh_private_key_file"]]
    subprocess.run(["ssh", *options, f"root@{host['ansible_host']}", f"{proxy}; {away}"], check=True)


def _recover(archive: Path, scratch: Path) -> dict[str, Any]:
    code = scratch / "code"
    code.mkdir()
    (code / "bot.py").write_text("print('trade')\n")
    (scratch / "trading_system.service").write_text(UNIT)
    bundle = scratch / "bot.bundle"
    who = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"]
    for words in (
        ["init", "-q", "--initial-branch=main"],
        ["add", "."],
        [*who, "commit", "-qm", "Trade"],
        ["bundle", "create", "-q", str(bundle), "main"],
    ):
        subprocess.run(["git", *words], cwd=code, check=True)
    variables = {
        "tradekeep_profile": PROFILE,
        "backup_passphrase_file": "",
        "deploy_repository": "/srv/bot.bundle",
        "deploy_ref": "main",
        "recover_archive_on_controller": str(archive),
        "recover_record_dir": str(scratch),
        "recover_files": [
            {"src": str(bundle), "dest": "/srv/bot.bundle"},
            {"src": str(scratch / "trading_system.service"), "dest": "/etc/systemd/system/trading_system.service"},
        ],
    }
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(TOP / "ansible.cfg"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = ["ansible-playbook", "-i", str(TOP / "molecule/shared/inventory/hosts"), "--limit", HOST]
    command += ["tradekeep.ops.recover_server", "-e", json.dumps(variables)]
    done = subprocess.run(command, env=environment, cwd=TOP, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr}")
    found: dict[str, Any] = json.loads((scratch / f"{HOST}.json").read_text())
    return found
