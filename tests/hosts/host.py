# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""One test host: a real systemd, its own disk and its own network address, reached by plain ssh."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Optional

import network
from machine import HostError, cache_dir, give_to_caller, hosts_dir, locked, run, wait_until

BOOT_SECONDS = 120.0
# Where the control groups of a host without systemd outside are made: v2, hybrid, v1.
CGROUP_ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"))


@dataclass
class Host:
    """What is known of a host between two calls; kept as host.json."""

    name: str
    address: str
    release: str
    variant: str
    disk: Optional[str] = None
    pid: int = 0
    started: str = ""

    @property
    def home(self) -> Path:
        """Where everything of this host lies."""
        return hosts_dir() / self.name

    @property
    def root(self) -> Path:
        """The host's root filesystem."""
        return self.home / "root"

    @property
    def known_hosts(self) -> Path:
        """The host's public key, so that ssh checks it as it does for a real server."""
        return self.home / "known_hosts"

    def save(self) -> None:
        """Write host.json in one step."""
        written = self.home / "host.json.partial"
        written.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        written.replace(self.home / "host.json")

    def running(self) -> bool:
        """Whether the process that was started is still this one, and no zombie."""
        return bool(self.pid) and start_time(self.pid) == self.started


def load(name: str) -> Optional[Host]:
    """The host of this name, or None."""
    try:
        return Host(**json.loads((hosts_dir() / name / "host.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def load_all() -> list[Host]:
    """Every host that exists, running or not."""
    names = sorted(entry.parent.name for entry in hosts_dir().glob("*/host.json"))
    return [found for found in map(load, names) if found is not None]


def start_time(pid: int) -> str:
    """When a process started, in ticks since boot: with the number it names a process for good. Empty when dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, ticks = fields[0], fields[19]
    return "" if state in "ZX" else ticks


def register(name: str, release: str, variant: str, disk: Optional[str]) -> Host:
    """Give a new host its address; the lock keeps two hosts from taking the same one."""
    with locked(cache_dir() / "locks" / "network"):
        host = load(name)
        if host is None:
            taken = {other.address for other in load_all()}
            host = Host(name, network.free_address(taken), release, variant, disk)
            host.home.mkdir(parents=True, exist_ok=True)
            host.save()
        network.ensure_bridge()
        network.plug_in(host.name, host.address)
    return host


def unpack(host: Host, image: Path) -> None:
    """The host's own copy of the image; the marker at the end says that it is whole."""
    if (host.home / "unpacked").exists():
        return
    clear_root(host)
    host.root.mkdir(parents=True)
    if host.disk:
        make_disk(host)
    run(["tar", "--extract", "--preserve-permissions", "--numeric-owner", "--file", str(image), "-C", str(host.root)])
    authorize(host)
    (host.home / "unpacked").touch()


def made(host: Host) -> float:
    """When its root filesystem was complete, in seconds since the epoch; 0 before that."""
    try:
        return (host.home / "unpacked").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def make_disk(host: Host) -> None:
    """A small disk of the host's own, for tests that fill it. All of it is usable: no blocks kept for root."""
    backing = host.home / "disk.img"
    run(["truncate", "--size", str(host.disk), str(backing)])
    run(["mkfs.ext4", "-q", "-m", "0", str(backing)])
    mount_disk(host)


def mount_disk(host: Host) -> None:
    """Mount the host's disk where it is not mounted yet."""
    if not os.path.ismount(host.root):
        run(["mount", "-o", "loop", str(host.home / "disk.img"), str(host.root)])


def clear_root(host: Host) -> None:
    """Unmount and delete the root filesystem."""
    if os.path.ismount(host.root):
        run(["umount", str(host.root)])
    if host.root.exists():
        run(["rm", "--recursive", "--force", "--one-file-system", str(host.root)])


def client_key() -> Path:
    """The key that opens every test host; made once."""
    key = hosts_dir() / "id_ed25519"
    with locked(cache_dir() / "locks" / "key"):
        if not key.exists():
            hosts_dir().mkdir(parents=True, exist_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tradekeep test hosts", "-f", str(key)])
    give_to_caller(key)
    return key


def authorize(host: Host) -> None:
    """Let the client in as root and as admin, and make the host's own key known."""
    public = client_key().with_suffix(".pub").read_text(encoding="ascii")
    for account in ("root", "home/admin"):
        home = host.root / account
        owner = home.stat()
        directory = home / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        (directory / "authorized_keys").write_text(public, encoding="ascii")
        for path in (directory, directory / "authorized_keys"):
            os.chown(path, owner.st_uid, owner.st_gid)
    key = host.root / "etc/ssh/ssh_host_ed25519_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(key)])
    public_host_key = key.with_suffix(".pub").read_text(encoding="ascii")
    host.known_hosts.write_text(f"{host.address} {public_host_key}", encoding="ascii")
    (host.root / "etc/hostname").write_text(f"{host.name}\n", encoding="ascii")
    (host.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n", encoding="ascii")


def boot(host: Host) -> None:
    """Start systemd-nspawn in the background, outside the session of whoever called."""
    if host.disk:
        mount_disk(host)
    command = [
        "systemd-nspawn",
        "--quiet",
        # Both let it work where this machine's init is not systemd.
        "--register=no",
        "--keep-unit",
        "--settings=no",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        # Units with a private network need it inside.
        "--capability=CAP_NET_ADMIN",
        f"--network-namespace-path=/run/netns/{network.namespace(host.name)}",
        f"--machine={host.name}",
        f"--directory={host.root}",
        "--boot",
    ]
    with open(host.home / "console.log", "ab") as console:
        process = subprocess.Popen(
            own_control_group(host) + command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    host.pid, host.started = process.pid, start_time(process.pid)
    host.save()


def own_control_group(host: Host) -> list[str]:
    """A prefix that gives the host a control group of its own.

    Two hosts that inherit one group would share the tree their units live in, so that stopping a
    unit of one host would find, and kill, the processes of its namesake on the other.
    """
    unit = network.namespace(host.name)
    if Path("/run/systemd/system").is_dir():
        scope = ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={unit}", "--property=Delegate=yes"]
        return [*scope, "--"]
    groups = [root / unit for root in CGROUP_ROOTS if (root / "cgroup.procs").exists()]
    for group in groups:
        group.mkdir(exist_ok=True)
    entering = "".join(f"echo $$ > {group}/cgroup.procs; " for group in groups)
    return ["sh", "-ec", entering + 'exec "$@"', "sh"]


def remove_control_groups(host: Host) -> None:
    """Remove the groups that own_control_group made (a scope of systemd removes itself)."""
    for root in CGROUP_ROOTS:
        top = root / network.namespace(host.name)
        if not top.is_dir():
            continue
        for directory, _below, _files in os.walk(top, topdown=False):
            # A group is busy for a moment after its last process has died.
            wait_until(partial(remove_group, directory), seconds=5)


def remove_group(directory: str) -> bool:
    """Whether the group is gone."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def ssh_options(host: Host) -> list[str]:
    """The options that ssh needs to reach a host, and none that weaken it."""
    return ["-o", f"UserKnownHostsFile={host.known_hosts}", "-o", "StrictHostKeyChecking=yes"]


def system_state(host: Host) -> str:
    """What systemd says of itself over ssh; empty while nothing answers."""
    command = ["ssh", "-i", str(hosts_dir() / "id_ed25519"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=2"]
    remote = [f"admin@{host.address}", "systemctl is-system-running"]
    return run([*command, *ssh_options(host), *remote], check=False, timeout=15).strip()


def wait_ready(host: Host) -> str:
    """Wait until ssh answers and systemd has finished starting; the state it ended in."""
    state = ""

    def settled() -> bool:
        nonlocal state
        if not host.running():
            raise HostError(f"{host.name}: ended while starting; see {host.home / 'console.log'}")
        state = system_state(host)
        return state in ("running", "degraded")

    if not wait_until(settled, seconds=BOOT_SECONDS):
        raise HostError(f"{host.name}: not ready after {BOOT_SECONDS:.0f} s (state {state or 'unreachable'})")
    return state


def cut_power(host: Host) -> None:
    """End the host at once, as a power cut would: nothing inside gets to finish.

    What its kernel (this machine's) had accepted stays in the page cache, so this does not test missing syncs.
    """

    def dead() -> bool:
        # The supervisor's death alone would leave the processes inside running: its children first.
        pids = network.processes(host.name) + ([host.pid] if host.running() else [])
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    if not wait_until(dead, seconds=20):
        raise HostError(f"{host.name}: processes survive SIGKILL: {network.processes(host.name)}")
    remove_control_groups(host)


def remove(host: Host) -> None:
    """Power off and delete everything of the host; the bridge goes with the last one."""
    cut_power(host)
    with locked(cache_dir() / "locks" / "network"):
        network.unplug(host.name, host.address)
        clear_root(host)
        shutil.rmtree(host.home)
        if not load_all():
            network.remove_bridge()


def uptime(host: Host) -> float:
    """Seconds since the host was started."""
    ticks = int(host.started or 0)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
