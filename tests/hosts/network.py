# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""One bridge on this machine, one network namespace and cable per host. No way out to the internet."""

from __future__ import annotations

import ipaddress
import shutil
from pathlib import Path

from machine import HostError, run

BRIDGE = "tradekeep0"
SUBNET = ipaddress.ip_network("10.213.77.0/24")
GATEWAY = f"{SUBNET[1]}/{SUBNET.prefixlen}"
FIRST_HOST = 10
FORWARD_RULE = ["FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT"]


def namespace(name: str) -> str:
    """The network namespace of a host."""
    return f"tradekeep-{name}"


def free_address(taken: set[str]) -> str:
    """The lowest address that no host holds."""
    for address in list(SUBNET)[FIRST_HOST:-1]:
        if str(address) not in taken:
            return str(address)
    raise HostError(f"{SUBNET}: no address left for another host")


def ensure_bridge() -> None:
    """The bridge, with this machine's address on it."""
    if not exists(BRIDGE):
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "replace", GATEWAY, "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    # Where a container engine has turned forwarding off (GitHub's runners), the hosts could not reach each other.
    if shutil.which("iptables") and not rule_present():
        run(["iptables", "-I", *FORWARD_RULE])


def remove_bridge() -> None:
    """Undo ensure_bridge."""
    if shutil.which("iptables") and rule_present():
        run(["iptables", "-D", *FORWARD_RULE])
    if exists(BRIDGE):
        run(["ip", "link", "delete", BRIDGE])


def rule_present() -> bool:
    """Whether traffic over the bridge is let through by name."""
    return "-A " + " ".join(FORWARD_RULE) in run(["iptables", "-S", "FORWARD"], check=False)


def exists(link: str) -> bool:
    """Whether this machine has such a network interface."""
    return bool(run(["ip", "-oneline", "link", "show", "dev", link], check=False))


def plug_in(name: str, address: str) -> None:
    """A namespace for the host, and a cable from it to the bridge. A second call finds it done."""
    space, cable = namespace(name), cable_of(address)
    if Path("/run/netns", space).exists() and exists(cable):
        return
    unplug(name, address)
    run(["ip", "netns", "add", space])
    run(["ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space])
    run(["ip", "link", "set", cable, "master", BRIDGE, "up"])
    inside = ["ip", "-n", space]
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "address", "add", f"{address}/{SUBNET.prefixlen}", "dev", "eth0"])
    run([*inside, "link", "set", "eth0", "up"])


def unplug(name: str, address: str) -> None:
    """Remove the cable and the namespace, each where it exists."""
    if exists(cable_of(address)):
        run(["ip", "link", "delete", cable_of(address)], check=False)
    if Path("/run/netns", namespace(name)).exists():
        run(["ip", "netns", "delete", namespace(name)])


def cable_of(address: str) -> str:
    """Interface names hold 15 characters at most: the last number of the address tells the hosts apart."""
    return f"tradekeep{address.rsplit('.', 1)[1]}v"


def processes(name: str) -> list[int]:
    """Everything that runs in the host's network namespace, its init included."""
    if not Path("/run/netns", namespace(name)).exists():
        return []
    return [int(pid) for pid in run(["ip", "netns", "pids", namespace(name)], check=False).split()]
