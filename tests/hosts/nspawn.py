#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Real Debian hosts on this machine for the tests: systemd inside systemd-nspawn, reached by ssh.

    nspawn.py image bookworm                 build and cache a root filesystem
    nspawn.py up debian12 --image bookworm   start a host (several calls may run side by side)
    nspawn.py kill debian12                  power loss; `up` starts it again with the same disk
    nspawn.py down [NAME ...]                delete hosts (all without a name), mounts and network included
    nspawn.py inventory                      Ansible's dynamic inventory of what is up
    nspawn.py status                         one line per host

Needs root (it calls sudo itself) and what tests/hosts/prepare installs. Everything is safe to run twice.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from typing import Any, Optional, Sequence

import host as hosts
import images
from machine import HostError, cache_dir, hosts_dir, locked

# Also the name of a network namespace, a control group and a machine.
HOST_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")


def image(options: argparse.Namespace) -> None:
    """Print the path of the image, building it first where needed."""
    print(images.build(options.release, options.variant))


def up(options: argparse.Namespace) -> None:
    """Have the host running and ready."""
    name, asked = valid_name(options.name), time.time()
    with locked(cache_dir() / "locks" / f"host-{name}"):
        known = hosts.load(name)
        # Made while this waited: fresh, and somebody may be at work on it. A run that was killed leaves such calls.
        if known is not None and options.fresh and hosts.made(known) < asked:
            hosts.remove(known)
            known = None
        host = known or new_host(name, options)
        if known is not None:
            refuse_other_kind(known, options)
        if not host.running():
            start(host)
        state = hosts.wait_ready(host)
    print(f"{host.name} {host.address} {host.release} {state}")


def new_host(name: str, options: argparse.Namespace) -> hosts.Host:
    """A host that does not exist yet, with its address."""
    if not options.image:
        raise HostError(f"{name}: no such host; say which --image to make it from")
    images.recipe(options.image, options.variant)
    return hosts.register(name, options.image, options.variant, options.disk)


def refuse_other_kind(host: hosts.Host, options: argparse.Namespace) -> None:
    """A host is not turned into another one behind somebody's back."""
    if options.image and (host.release, host.variant, host.disk) != (options.image, options.variant, options.disk):
        raise HostError(f"{host.name}: exists as {host.release}/{host.variant}, disk {host.disk}; use --fresh")


def start(host: hosts.Host) -> None:
    """Boot a host that is not running, whatever an earlier attempt has left."""
    hosts.cut_power(host)
    hosts.register(host.name, host.release, host.variant, host.disk)
    hosts.unpack(host, images.build(host.release, host.variant))
    hosts.boot(host)


def down(options: argparse.Namespace) -> None:
    """Delete the named hosts, or all of them."""
    names = [valid_name(name) for name in options.names] or [host.name for host in hosts.load_all()]
    for name in names:
        with locked(cache_dir() / "locks" / f"host-{name}"):
            host = hosts.load(name)
            if host is not None:
                hosts.remove(host)


def kill(options: argparse.Namespace) -> None:
    """Power loss: the host dies, its disk stays."""
    host = hosts.load(valid_name(options.name))
    if host is None:
        raise HostError(f"{options.name}: no such host; `status` lists them")
    with locked(cache_dir() / "locks" / f"host-{host.name}"):
        hosts.cut_power(host)


def inventory(_options: argparse.Namespace) -> None:
    """Print Ansible's dynamic inventory."""
    print(json.dumps(inventory_of([host for host in hosts.load_all() if host.running()]), indent=2))


def inventory_of(running: Sequence[hosts.Host]) -> dict[str, Any]:
    """Every running host, in a group named after its release."""
    groups: dict[str, Any] = {}
    for host in running:
        groups.setdefault(host.release, {"hosts": []})["hosts"].append(host.name)
    return {
        "_meta": {"hostvars": {host.name: connection(host) for host in running}},
        "all": {"hosts": [host.name for host in running]},
        **groups,
    }


def connection(host: hosts.Host) -> dict[str, str]:
    """How Ansible reaches a host: plain ssh, an ordinary account, become for the rest."""
    return {
        "ansible_host": host.address,
        "ansible_user": "admin",
        "ansible_ssh_private_key_file": str(hosts_dir() / "id_ed25519"),
        "ansible_ssh_common_args": " ".join(hosts.ssh_options(host)),
        "ansible_python_interpreter": "/usr/bin/python3",
    }


def status(_options: argparse.Namespace) -> None:
    """One line per host."""
    for host in hosts.load_all():
        state = f"up {hosts.uptime(host):.0f} s" if host.running() else "down"
        print(f"{host.name} {host.address} {host.release}/{host.variant} {state}")


def valid_name(name: str) -> str:
    """The name, where it can name a host."""
    if not HOST_NAME.match(name):
        raise HostError(f"{name!r}: a host's name is lower-case letters, digits and hyphens, 31 at most")
    return name


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)

    build = commands.add_parser("image", help="build and cache a root filesystem")
    build.add_argument("release", choices=images.RELEASES)
    build.set_defaults(call=image, root=True)

    bring_up = commands.add_parser("up", help="start a host, making it first where needed")
    bring_up.add_argument("name")
    bring_up.add_argument("--image", choices=images.RELEASES, metavar="RELEASE", help="needed for a new host")
    bring_up.add_argument("--disk", metavar="SIZE", help="a disk of its own, of this size (1G), instead of a directory")
    bring_up.add_argument("--fresh", action="store_true", help="delete the host first where it exists")
    bring_up.set_defaults(call=up, root=True)
    for command in (build, bring_up):
        command.add_argument("--variant", choices=sorted(images.VARIANTS), default="full")

    delete = commands.add_parser("down", help="delete hosts, all of them without a name")
    delete.add_argument("names", nargs="*", metavar="NAME")
    delete.set_defaults(call=down, root=True)

    power_loss = commands.add_parser("kill", help="power loss")
    power_loss.add_argument("name")
    power_loss.set_defaults(call=kill, root=True)

    listing = commands.add_parser("inventory", help="Ansible's dynamic inventory")
    listing.add_argument("--list", action="store_true", help="accepted because Ansible passes it")
    listing.set_defaults(call=inventory, root=False)

    commands.add_parser("status", help="one line per host").set_defaults(call=status, root=False)
    return top


def become_root(arguments: Sequence[str]) -> None:
    """Start over through sudo; the cache stays the caller's."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    environment = f"TRADEKEEP_CACHE={cache_dir()}"
    command = ["sudo", "--non-interactive", "env", environment, sys.executable, os.path.abspath(__file__), *arguments]
    try:
        os.execvp("sudo", command)
    except FileNotFoundError as error:
        raise HostError("the test hosts need root, and there is no sudo: run this as root") from error


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    try:
        if options.root and os.geteuid() != 0:
            become_root(arguments)
        options.call(options)
    except HostError as error:
        print(f"nspawn.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
