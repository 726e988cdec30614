# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a taken-over program tries from within a unit. Started there instead of ``tradekeep``.

Everything is tried as the unit's first process (uid 0 with what rights the unit leaves it) and as the application's
owner. Each answer is ``done`` or the reason why it could not be done.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import pwd
import resource
import socket
import subprocess
import sys
import time
from typing import Callable

HERE = sys.argv[1]
OWNER = pwd.getpwnam(sys.argv[2])
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
KEYCTL_DESCRIBE, USER_KEYRING = 6, -4
SYS_KEYCTL, SYS_PTRACE = 250, 101
CAPABILITY_VERSION_3 = 0x20080522


def checked(result: int) -> None:
    """Raise what a call of the C library says."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def connect(family: int, address: object) -> None:
    """Reach a socket."""
    with socket.socket(family, socket.SOCK_STREAM) as door:
        door.settimeout(5)
        door.connect(address)


def program(*argv: str) -> None:
    """Have a program of the system do it."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise OSError(errno.EPERM, done.stderr.strip() or f"status {done.returncode}")


def read(path: str) -> None:
    """See what is in a file, or in a directory. Where a unit has mounted a file, an empty one stays for the others."""
    if os.path.isdir(path):
        os.listdir(path)
        return
    with open(path, "rb") as file:
        if not file.read(1):
            raise FileNotFoundError("only the place where it could be mounted")


def write(path: str) -> None:
    """Change a file, or make one."""
    with open(path, "ab") as file:
        file.write(b"# bot\n")


TRANSIENT = ("call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
START = ("StartTransientUnit", "ssa(sv)a(sa(sv))", "bot.service", "fail", "1", "ExecStart", "a(sasb)", "1")
ATTEMPTS: dict[str, Callable[[], None]] = {
    "systemd-run": lambda: program("systemd-run", "--quiet", "--wait", "touch", "/root/taken"),
    "busctl": lambda: program(
        "busctl", "--system", *TRANSIENT, *START, "/bin/touch", "2", "touch", "/root/taken", "false", "0"
    ),
    "systemctl": lambda: program("systemctl", "start", "bot-probe.service"),
    "systemd's socket": lambda: connect(socket.AF_UNIX, "/run/systemd/private"),
    "D-Bus": lambda: connect(socket.AF_UNIX, "/run/dbus/system_bus_socket"),
    "D-Bus by its old name": lambda: connect(socket.AF_UNIX, "/var/run/dbus/system_bus_socket"),
    "journald": lambda: connect(socket.AF_UNIX, "/run/systemd/journal/stdout"),
    "supervisor": lambda: connect(socket.AF_UNIX, "/run/supervisor.sock"),
    "an abstract socket": lambda: connect(socket.AF_UNIX, "\0tradekeep-probe"),
    "the loopback": lambda: connect(socket.AF_INET, ("127.0.0.1", 22)),
    "a look at /etc/shadow": lambda: read("/etc/shadow"),
    "a look at root's files": lambda: read("/root/secret"),
    "a look at root's secret keys": lambda: read("/root/.gnupg/private-keys-v1.d"),
    "a look at the host's secret key": lambda: read("/var/lib/tradekeep/.host-keys/bot/secret.asc"),
    "a look at the other's key": lambda: read("/var/lib/tradekeep/.host-keys/other/secret.asc"),
    "the host's public key": lambda: write("/var/lib/tradekeep/.host-keys/bot/public.asc"),
    "another key for the host": lambda: write("/var/lib/tradekeep/.host-keys/bot/more.asc"),
    "a look at systemd's root": lambda: read("/proc/1/root/etc/shadow"),
    "a look at the other's backups": lambda: read("/opt/backups/other/backup"),
    "a look at the other's state": lambda: read("/var/lib/tradekeep/other"),
    "a look at the other's data": lambda: read("/opt/other/data"),
    "a look at the other's configuration": lambda: read("/etc/tradekeep/other.json"),
    "a look at the mirrors": lambda: read("/var/lib/tradekeep/mirrors"),
    "the other's backups": lambda: write("/opt/backups/other/backup"),
    "the other's state": lambda: write("/var/lib/tradekeep/other/catalog.json"),
    "the other's data": lambda: write("/opt/other/data"),
    "the other's configuration": lambda: write("/etc/tradekeep/other.json"),
    "its own configuration": lambda: write("/etc/tradekeep/bot.json"),
    "its own program": lambda: write("/usr/local/bin/tradekeep"),
    "its own root": lambda: write("/var/lib/tradekeep/.sandbox/bot/etc/ld.so.preload"),
    "the root that it sees": lambda: write("/etc/ld.so.preload"),
    "cron": lambda: write("/etc/cron.d/bot"),
    "accounts": lambda: write("/etc/passwd"),
    "a unit": lambda: write("/etc/systemd/system/bot.service"),
    "a unit until the next boot": lambda: write("/run/systemd/system/bot.service"),
    "root's home": lambda: write("/root/.profile.d/taken"),
    "a core pattern": lambda: write("/proc/sys/kernel/core_pattern"),
    "control groups": lambda: write("/sys/fs/cgroup/cgroup.procs"),
    "shared memory": lambda: write("/dev/shm/taken"),
    "a namespace of accounts": lambda: checked(LIBC.unshare(CLONE_NEWUSER)),
    "a namespace of mounts": lambda: checked(LIBC.unshare(CLONE_NEWNS)),
    "a mount": lambda: checked(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "a device": lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(254, 0)),
    "a key of root's": lambda: checked(LIBC.syscall(SYS_KEYCTL, KEYCTL_DESCRIBE, USER_KEYRING, 0, 0, 0)),
    "a debugger": lambda: checked(LIBC.syscall(SYS_PTRACE, 16, 1, 0, 0)),
    "a core dump": lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20)),
    "memory that can be written and run": lambda: os.close(os.open("/proc/self/mem", os.O_RDWR) if wx() else -1),
    "the rights of root": lambda: os.chown("/tmp", 1, 1) or os.chown("/tmp", 0, 0),
}


def wx() -> bool:
    """Map memory that can be written to and carried out."""
    import mmap

    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    return True


def tried(attempt: Callable[[], None]) -> str:
    """What came of it."""
    try:
        attempt()
    except Exception as error:
        return str(error) or type(error).__name__
    return "done"


def child(work: Callable[[], object]) -> object:
    """Do it in a process of its own, and tell what it says."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        with os.fdopen(into, "w") as stream:
            json.dump(said, stream)
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as stream:
        said = json.load(stream)
    os.waitpid(pid, 0)
    return said


def become_owner() -> None:
    """As the engine does before it reads what is the bot's."""
    os.setgroups([OWNER.pw_gid])
    os.setresgid(*[OWNER.pw_gid] * 3)
    os.setresuid(*[OWNER.pw_uid] * 3)


def as_owner(work: Callable[[], object]) -> object:
    """Do it as the application's owner."""

    def changed() -> object:
        become_owner()
        return work()

    return child(changed)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def drop() -> None:
    """Give every right of root's away, as the engine does once it has its reader."""
    checked(LIBC.capset(ctypes.byref(_Header(CAPABILITY_VERSION_3, 0)), (_Data * 2)()))


def rights() -> dict[str, str]:
    """Who this process is, and what it may."""
    with open("/proc/self/status") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {key: lines[key] for key in ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs")}


def rights_after_all_are_dropped() -> list[object]:
    """Of the process, and of a program that it starts: a uid of 0 must not bring them back."""
    drop()
    shown = subprocess.run(["grep", "^CapEff", "/proc/self/status"], capture_output=True, text=True, check=True)
    return [rights()["CapEff"], shown.stdout.split()[1], as_owner(os.getuid)]


def end_a_child_of_the_owners() -> str:
    """What a worker that hangs comes to."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(OSError):
            become_owner()
            os.write(into, b"x")
            time.sleep(60)
        os._exit(0)
    os.close(into)
    os.read(out, 1)
    os.kill(pid, 9)
    return str(os.waitpid(pid, 0)[1])


def thread_of_the_owners() -> list[int]:
    """Another account for files alone, by setfsuid(2): before, then, and afterwards."""
    return [LIBC.setfsuid(OWNER.pw_uid), LIBC.setfsuid(0), LIBC.setfsuid(-1)]


def words(*argv: str) -> str:
    """What a program of the system says."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    return done.stdout if done.returncode == 0 else f"failed: {done.stderr}"


def main() -> None:
    """Try everything; then see that the engine can do its work."""
    places = json.loads(sys.argv[3])
    answer = {
        "attempts": {name: tried(attempt) for name, attempt in ATTEMPTS.items()},
        "attempts_of_owner": as_owner(lambda: {name: tried(attempt) for name, attempt in ATTEMPTS.items()}),
        "rights": rights(),
        "owner": as_owner(rights),
        "dropped": child(rights_after_all_are_dropped),
        "ended": tried_text(end_a_child_of_the_owners),
        "files_as": thread_of_the_owners(),
        "root": sorted(os.listdir("/")),
        "etc": sorted(os.listdir("/etc")),
        "visible": {path: os.path.lexists(path) for path in places},
        "writable": {path: as_owner(lambda path=path: tried(lambda: write(f"{path}/probe"))) for path in places},
        "writable_to_root": {path: tried(lambda path=path: write(f"{path}/probe-of-root")) for path in places},
        "key": words("gpg", "--batch", "--no-options", "--armor", "--export", "--", "operator@example.org"),
        "compressed": words("sh", "-c", "echo good | igzip -c -1 | igzip -d -c && echo day | zstd -qc -T0 | zstd -dqc"),
        "zone": time.tzname[0],
        "name": socket.gethostname(),
        "cores": resource.getrlimit(resource.RLIMIT_CORE)[1],
        "flags": [sys.flags.isolated, sys.flags.utf8_mode],
    }
    with open(f"{HERE}/probe.json", "w") as file:
        json.dump(answer, file)


def tried_text(work: Callable[[], str]) -> str:
    """What it says, or why it could not."""
    try:
        return work()
    except OSError as error:
        return str(error)


if __name__ == "__main__":
    main()
