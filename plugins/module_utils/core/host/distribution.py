# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the system of this host calls itself."""

from __future__ import annotations

import shlex
from pathlib import Path

SUPPORTED = "Debian and Ubuntu are supported (tried on Debian 11, 12 and 13)"


def system_name(etc: str = "/etc") -> str:
    """The name and version from os-release(5); "this host" where there is none."""
    for place in (Path(etc, "os-release"), Path("/usr/lib/os-release")):
        try:
            text = place.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            key, _equals, value = line.partition("=")
            if key == "PRETTY_NAME":
                return " ".join(shlex.split(value)) or "this host"
    return "this host"
