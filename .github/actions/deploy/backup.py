# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Step 5, where it is asked for: an encrypted backup of the bot's data comes here, and only that."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from calling import playbook
from common import ACTION, Places, Refused, output, places, say, step
from openpgp import NotEncrypted, key_ids


def main() -> int:
    """Fetch, then look at every file before anything may upload it."""
    here = places()
    allowed = recipients(here, here.settings()["recipients"])
    try:
        status = playbook(here, [str(ACTION / "backup.yml")], {"artifact_directory": str(here.backups)})
        if status:
            raise Refused("the backup for the artifact was not made; the log above says why")
        check(here.backups, allowed)
    except BaseException:
        shutil.rmtree(here.backups, ignore_errors=True)
        raise
    output("ready", "true")
    return 0


def recipients(here: Places, files: list[str]) -> set[str]:
    """The IDs of the keys, subkeys included, that may open the artifact."""
    home = here.private / "gnupg"
    home.mkdir(mode=0o700, exist_ok=True)
    found: set[str] = set()
    for file in files:
        command = ["gpg", "--homedir", str(home), "--batch", "--no-autostart", "--with-colons", "--show-keys", file]
        try:
            shown = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        except FileNotFoundError as error:
            raise Refused("gpg: not found; the runner needs it to know the recipients' keys") from error
        fields = [line.split(":") for line in shown.stdout.splitlines()]
        if any(line[0] in ("sec", "ssb") for line in fields):
            raise Refused("artifact-backup-recipients: expected public keys, found a secret one; take it out of there")
        found |= {line[4] for line in fields if line[0] in ("pub", "sub")}
    if not found:
        raise Refused("artifact-backup-recipients: expected files of public keys, found none in them")
    return found


def check(directory: Path, allowed: set[str]) -> None:
    """Raises Refused unless every file can be opened with the given keys and with nothing else."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_symlink() or not path.is_dir()]
    if not files:
        raise Refused("no host gave a backup for the artifact")
    for path in files:
        if path.is_symlink() or not path.is_file():
            raise Refused(f"{path.name}: expected a file")
        try:
            with path.open("rb") as file:
                found = key_ids(file)
        except NotEncrypted as error:
            raise Refused(f"{path.name}: is not encrypted to public keys and is not uploaded: {error}") from error
        strangers = found - allowed
        if strangers:
            raise Refused(
                f"{path.name}: can be opened by keys that are not named in artifact-backup-recipients "
                f"({', '.join(sorted(strangers))}) and is not uploaded"
            )
        say(f"{path.name}: {path.stat().st_size} bytes, encrypted to {', '.join(sorted(found))}")


if __name__ == "__main__":
    step(main)
