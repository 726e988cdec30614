# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What the steps of the action share: their inputs, what they tell the runner, and the directory they work in.

Inputs arrive as environment variables ``INPUT_*``; nothing of them is ever part of a command line that a shell reads.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

ACTION = Path(__file__).resolve().parent
# The collection of the same commit as this action.
COLLECTION = ACTION.parents[2]
MODES = ("plan", "update", "new", "rollback")


def _formatting() -> Any:
    """What the collection itself makes text safe with; its other modules have no place on the import path here."""
    file = COLLECTION / "plugins" / "module_utils" / "core" / "formatting.py"
    spec = importlib.util.spec_from_file_location("tradekeep_formatting", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


formatting = _formatting()
# The runner takes a command at the beginning of a line, and those of the old form anywhere in it.
_COMMAND = re.compile(r"\A(\s*):(?=:)|#(?=#\[)")


class Refused(Exception):
    """The step cannot go on; the message is for the person who reads the job's page."""


@dataclass(frozen=True)
class Places:
    """Where the steps of one run of the action leave things."""

    directory: Path

    @property
    def private(self) -> Path:
        """Keys and the like, for this account alone; the last step removes it."""
        return self.directory / "private"

    @property
    def records(self) -> Path:
        """What each host answered, as FORMAT says in docs/github-actions.md. Uploaded."""
        return self.directory / "records"

    @property
    def backups(self) -> Path:
        """Encrypted backups. Uploaded where that is asked for."""
        return self.directory / "backups"

    @property
    def collections(self) -> Path:
        """The import path under which Ansible finds this commit's collection."""
        return self.private / "collections"

    @property
    def ansible(self) -> Path:
        """The directory of Ansible's programs; kept beside, so that a second call in the same job finds it."""
        return Path((self.private / "ansible").read_text(encoding="utf-8"))

    def settings(self) -> dict[str, Any]:
        """What `prepare` understood of the inputs."""
        loaded: dict[str, Any] = json.loads((self.private / "settings.json").read_text(encoding="utf-8"))
        return loaded


def places() -> Places:
    """The directory that `prepare` made."""
    return Places(Path(required("TRADEKEEP_DIRECTORY")))


def required(name: str) -> str:
    """A variable that the runner or action.yml sets."""
    value = os.environ.get(name, "")
    if not value:
        raise Refused(f"the environment variable {name} is not set; this program is a step of an action")
    return value


def private_file(path: Path, content: str) -> Path:
    """A new file that no other account can read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    return path


def output(name: str, value: object) -> None:
    """Set an output of the step. The delimiter cannot be guessed, so no value can set another output."""
    delimiter = secrets.token_hex(16)
    with Path(required("GITHUB_OUTPUT")).open("a", encoding="utf-8") as file:
        file.write(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")


def say(text: str) -> None:
    """One line of the job's log; nothing in it is a command to the runner."""
    print(
        _COMMAND.sub(lambda sign: f"{sign[1] or ''}\\x{ord(sign[0][-1]):02x}", formatting.printable(text)), flush=True
    )


def command(text: str) -> None:
    """A command to the runner."""
    print(f"::{text}", flush=True)


def annotate(level: str, message: str) -> None:
    """An error, warning or notice on the job's page: one line, with an end."""
    command(f"{level} title=tradekeep::{formatting.printable(message).replace('%', '%25')}")


class Untrusted:
    """While this is open the runner takes no commands from the log: hosts and commits have a say in what is written."""

    def __enter__(self) -> None:
        self._token = secrets.token_hex(16)
        command(f"stop-commands::{self._token}")

    def __exit__(self, *_: object) -> None:
        # On a line of its own, also where a host has left one unfinished.
        print(flush=True)
        command(f"{self._token}::")


def step(work: Callable[[], int]) -> None:
    """Run a step to its end: its status, or one line that says what is wrong."""
    try:
        sys.exit(work())
    except Refused as error:
        annotate("error", str(error))
        sys.exit(1)
