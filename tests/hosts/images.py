# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Root filesystems of the test hosts: built once from the Debian mirror, cached by their recipe."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from machine import HostError, cache_dir, images_dir, locked, run

RELEASES = ("bullseye", "bookworm", "trixie")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# The least that boots, answers ssh and runs Ansible modules. It lacks gpg, igzip and time zones on purpose:
# the tests of what the project says on a bare server run on it.
BARE = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# What the tests need besides, because the hosts have no way to a package mirror.
FULL = (*BARE, "git", "gnupg", "isal", "rsync", "sqlite3", "supervisor", "tzdata", "zstd")
VARIANTS = {"bare": BARE, "full": FULL}

# `admin` is who Ansible connects as: an ordinary account, so that become is really exercised.
CUSTOMIZE = (
    'chroot "$1" useradd --create-home --shell /bin/bash admin',
    'echo "admin ALL=(ALL) NOPASSWD: ALL" > "$1/etc/sudoers.d/admin"',
    'chmod 0440 "$1/etc/sudoers.d/admin"',
    'rm -f "$1"/etc/ssh/ssh_host_*',
)
# The full image promises the zone that profile v6 runs its timers in.
CUSTOMIZE_FULL = ('test -e "$1/usr/share/zoneinfo/America/New_York"',)


def recipe(release: str, variant: str) -> dict[str, Any]:
    """Everything that decides what is in an image."""
    if release not in RELEASES:
        raise HostError(f"{release}: unknown release; one of {', '.join(RELEASES)}")
    if variant not in VARIANTS:
        raise HostError(f"{variant}: unknown variant; one of {', '.join(VARIANTS)}")
    hooks = CUSTOMIZE + (CUSTOMIZE_FULL if variant == "full" else ())
    return {"release": release, "packages": list(VARIANTS[variant]), "hooks": list(hooks)}


def image_path(release: str, variant: str) -> Path:
    """Where the image of this recipe lies; another recipe is another file."""
    digest = hashlib.sha256(json.dumps(recipe(release, variant), sort_keys=True).encode()).hexdigest()
    return images_dir() / f"{release}-{variant}-{digest[:12]}.tar"


def build(release: str, variant: str) -> Path:
    """The image's path, after building it where it is not cached yet."""
    path = image_path(release, variant)
    with locked(cache_dir() / "locks" / f"image-{release}-{variant}"):
        if not path.exists():
            bootstrap(path, recipe(release, variant))
    return path


def bootstrap(path: Path, how: dict[str, Any]) -> None:
    """Build beside the final name and rename: an interrupted build never passes for an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".partial-{os.getpid()}.tar")
    try:
        run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--keyring={KEYRING}",
                f"--include={','.join(how['packages'])}",
                *[f"--customize-hook={hook}" for hook in how["hooks"]],
                how["release"],
                str(partial),
            ]
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
