# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Step 1: check every input and write what ssh and Ansible need, private to this account."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from common import COLLECTION, MODES, Places, Refused, output, private_file, required, step

# Branches, tags and commits; what a shell, git or Jinja would read otherwise has no place in one.
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@#=-]{0,249}")
LIMIT = re.compile(r"[A-Za-z0-9_.,:;&!*?~^$|()\[\]+\\ -]{1,1000}")


def main() -> int:
    """Check first, write then; the key comes last."""
    places = Places(Path(tempfile.mkdtemp(prefix="tradekeep-", dir=required("RUNNER_TEMP"))))
    # Before there is anything to clean up.
    output("directory", places.directory)
    settings = read_settings()
    for directory in (places.private, places.records, places.backups):
        directory.mkdir(mode=0o700)
    private_file(places.private / "settings.json", json.dumps(settings))
    write_connection(places)
    write_configuration(places)
    return 0


def read_settings() -> dict[str, Any]:
    """The inputs that are no secrets, checked."""
    mode = _input("MODE")
    if mode not in MODES:
        raise Refused(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
    settings = {
        "mode": mode,
        "ref": read_ref(mode),
        "inventory": [_existing("inventory", line) for line in _lines("INVENTORY")],
        "limit": read_limit(),
        "variables": [_existing("variables", line) for line in _lines("VARIABLES")],
        "backup": read_switch("ARTIFACT_BACKUP"),
        "recipients": [_existing("artifact-backup-recipients", line) for line in _lines("ARTIFACT_BACKUP_RECIPIENTS")],
    }
    if not settings["inventory"]:
        raise Refused("inventory: expected the path of an inventory, found nothing; is the repository checked out?")
    if settings["backup"] and not settings["recipients"]:
        raise Refused(
            "artifact-backup-recipients: expected the files of the public keys that may decrypt the artifact, found "
            "nothing; data is never uploaded in the clear"
        )
    return settings


def read_ref(mode: str) -> str:
    """What to deploy; a rollback has nothing to name."""
    ref = _input("REF")
    if mode == "rollback":
        if ref:
            raise Refused("ref: a rollback leads to the deploy before and takes no ref; to go elsewhere use update")
        return ""
    if not REF.fullmatch(ref) or ".." in ref:
        raise Refused(f"ref: expected a branch, a tag or a commit, found {ref!r}")
    return ref


def read_limit() -> str:
    """A pattern of hosts. Not a file of them, which could be any file."""
    limit = _input("LIMIT")
    if limit and not LIMIT.fullmatch(limit):
        raise Refused(f"limit: expected a pattern of hosts, found {limit!r}")
    return limit


def read_switch(name: str) -> bool:
    """true or false, nothing that merely looks like one."""
    value = _input(name) or "false"
    if value not in ("true", "false"):
        raise Refused(f"{name.lower().replace('_', '-')}: expected true or false, found {value!r}")
    return value == "true"


def write_connection(places: Places) -> None:
    """The hosts' keys, then the key of this job."""
    known_hosts = _text("KNOWN_HOSTS")
    if not any(line.strip() and not line.lstrip().startswith("#") for line in known_hosts.splitlines()):
        raise Refused(
            "known-hosts: expected the hosts' public keys, found nothing. Take them from the hosts themselves "
            "(/etc/ssh/ssh_host_ed25519_key.pub), not from the network"
        )
    hosts_file = private_file(places.private / "known_hosts", known_hosts)
    if _keygen("-l", "-f", str(hosts_file)) is None:
        raise Refused("known-hosts: expected lines as in ~/.ssh/known_hosts, found something else")
    key = _text("SSH_KEY")
    if not key.strip():
        raise Refused("ssh-key: expected a private key, found nothing; is the secret set for this environment?")
    key_file = private_file(places.private / "key", key)
    if _keygen("-y", "-P", "", "-f", str(key_file)) is None:
        raise Refused("ssh-key: expected a private key without a passphrase, found something else")
    certificate = _text("SSH_CERTIFICATE")
    if certificate.strip():
        certificate_file = private_file(places.private / "key-cert.pub", certificate)
        if _keygen("-L", "-f", str(certificate_file)) is None:
            raise Refused("ssh-certificate: expected a certificate of the key, found something else")


def ssh_options(places: Places) -> list[str]:
    """The options of every ssh. On a command line the first of a kind counts, so these come before any other."""
    hosts_file, key = places.private / "known_hosts", places.private / "key"
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _quoted(hosts_file),
        "GlobalKnownHostsFile": "/dev/null",
        "VerifyHostKeyDNS": "no",
        "UpdateHostKeys": "no",
        "BatchMode": "yes",
        "PreferredAuthentications": "publickey",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": _quoted(key),
        "ForwardAgent": "no",
        "ConnectTimeout": "30",
        "ServerAliveInterval": "15",
        "ControlMaster": "auto",
        "ControlPersist": "60",
    }
    if (places.private / "key-cert.pub").exists():
        options["CertificateFile"] = _quoted(places.private / "key-cert.pub")
    return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]


def write_configuration(places: Places) -> None:
    """Ansible's configuration and the variables that nothing in the inventory can override."""
    home = places.collections / "ansible_collections" / "tradekeep"
    home.mkdir(parents=True)
    (home / "ops").symlink_to(COLLECTION, target_is_directory=True)
    lines = [
        "[defaults]",
        f"collections_path = {places.collections}",
        f"local_tmp = {places.private}/tmp",
        "gathering = explicit",
        "interpreter_python = auto_silent",
        "retry_files_enabled = false",
        "host_key_checking = true",
        "forks = 10",
        "callback_result_format = yaml",
        # Files that are read, and nothing that runs: see inventory.py.
        "[inventory]",
        "enable_plugins = ansible.builtin.yaml, ansible.builtin.ini",
        "[ssh_connection]",
        "pipelining = true",
        # A socket's path has to be short, and RUNNER_TEMP may be long.
        f"control_path_dir = {_sockets(places)}",
        "[connection]",
        "pipelining = true",
    ]
    private_file(places.private / "ansible.cfg", "\n".join(lines) + "\n")
    options = ["-F", "/dev/null", *ssh_options(places)]
    connection = {
        "ansible_ssh_args": shlex.join(options),
        "ansible_host_key_checking": True,
        # What inventory.py refuses has no effect either.
        **{f"ansible_{program}_executable": program for program in ("ssh", "scp", "sftp")},
        **{f"ansible_{name}_args": "" for name in ("ssh_common", "ssh_extra", "scp_extra", "sftp_extra")},
    }
    private_file(places.private / "connection.json", json.dumps(connection))


def _sockets(places: Places) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="tk-"))
    private_file(places.private / "sockets", str(directory))
    return directory


def _input(name: str) -> str:
    return os.environ.get(f"INPUT_{name}", "").strip()


def _lines(name: str) -> list[str]:
    return [line.strip() for line in _input(name).splitlines() if line.strip()]


def _text(name: str) -> str:
    """A secret of several lines, with the end of line that forms tend to take away or double."""
    return os.environ.get(f"INPUT_{name}", "").replace("\r\n", "\n").strip("\n") + "\n"


def _existing(name: str, value: str) -> str:
    path = Path(os.environ.get("GITHUB_WORKSPACE", "."), value).resolve()
    if not path.exists() or "," in value:
        raise Refused(f"{name}: expected a path in the checked-out repository, found {value!r}")
    return str(path)


def _quoted(path: Path) -> str:
    """As ssh reads file names, of which it takes several."""
    return f'"{path}"'


def _keygen(*arguments: str) -> bytes | None:
    """What ssh-keygen says, None where it does not understand. It says nothing of a private key here."""
    try:
        called = subprocess.run(["ssh-keygen", *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise Refused("ssh-keygen: not found; the runner needs an OpenSSH client") from error
    return called.stdout if called.returncode == 0 else None


if __name__ == "__main__":
    step(main)
