#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Debian packages that the tests use: which are missing, and their installation as root.

sudo python3 tests/certify/packages.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

LIST = Path(__file__).with_name("apt-packages.txt")


class PackageFailure(Exception):
    """Packages are missing and could not be installed; the message names them."""


def wanted() -> list[str]:
    """The packages of the list."""
    lines = (line.split("#", 1)[0].strip() for line in LIST.read_text().splitlines())
    return [line for line in lines if line]


def missing() -> list[str]:
    """Those that are not installed; all of them where there is no dpkg."""
    if shutil.which("dpkg-query") is None:
        return wanted()
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *wanted()]
    shown = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    installed = {line.split()[0] for line in shown.splitlines() if line.endswith(" installed")}
    return [name for name in wanted() if name not in installed]


def install() -> None:
    """Install what is missing; raise `PackageFailure` when that is not possible."""
    names = missing()
    if not names:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PackageFailure(f"missing packages: {' '.join(names)} (sudo python3 tests/certify/packages.py, on Debian)")
    print(f"installing {' '.join(names)}", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "--quiet", "update"],
        ["apt-get", "--quiet", "install", "--yes", "--no-install-recommends", *names],
    ):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise PackageFailure(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")


if __name__ == "__main__":
    try:
        install()
    except PackageFailure as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)
