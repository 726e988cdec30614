# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What is wrong with the text of a unit: as systemd reads it, and what no unit should say. Nothing is installed."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..application import Application
from ..errors import ConfigurationError
from ..host.files import atomic_write
from ..host.filesystem.scratch import scratch_directory
from ..ports import Ports

_NOT_SHOWN = "(not shown)"
_SECRET = re.compile(r"(?i)(?:key|secret|token|passw(?:or)?d|passphrase|credential)")
# A place of a secret is none.
_PLACE = re.compile(r"(?i)(?:_|^)(?:file|path|dir|directory|id|name)$")
_ENVIRONMENT = re.compile(r"^\s*Environment\s*=(.*)$")
_ASSIGNED = re.compile(r"(?:^|[\s\"'])([A-Za-z_][A-Za-z0-9_]*)=")
_PROGRAM = re.compile(r"Command (/.*) is not executable")
_ABSENT = re.compile(r"Unit (\S+) not found")


@dataclass(frozen=True)
class Judged:
    """What systemd says of one unit. refused: why it cannot be used. notes: what it names and this host lacks."""

    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def judge_units(application: Application, ports: Ports, texts: Mapping[str, bytes]) -> dict[str, Judged]:
    """Have systemd read the units, those of one application together, as far as the host has systemd's programs.

    A program below the root or the checkout comes with the code, and need not be there yet.
    """
    if not texts or ports.runner.find("systemd-analyze") is None:
        return {}
    with scratch_directory(tempfile.gettempdir(), "units") as place:
        for name, content in texts.items():
            atomic_write(place / name, content)
        done = ports.runner.run(
            ["systemd-analyze", "verify", "--man=no", *(str(place / name) for name in texts)],
            check=False,
            timeout_seconds=60,
        )
        said = (done.stderr or "").splitlines()
    return {name: _judged(application, name, f"{place / name}:", said) for name in texts}


def _judged(application: Application, name: str, prefix: str, said: list[str]) -> Judged:
    refused, notes = [], []
    for line in said:
        if line.startswith(prefix):
            # Unknown keys as well: a mistyped User= runs the bot as root.
            refused.append(f"line {line[len(prefix) :]}")
            continue
        if not line.startswith(f"{name}: "):
            continue
        program, absent = _PROGRAM.search(line), _ABSENT.search(line)
        if program is not None:
            if not _comes_with_the_code(application, program[1]):
                notes.append(f"{name}: there is no program {program[1]} on this host")
        elif absent is not None:
            notes.append(f"{name}: needs {absent[1]}, which this host does not have")
        else:
            refused.append(line[len(name) + 2 :])
    # What follows from a line is no news.
    return Judged(tuple(refused[:1]), tuple(notes))


def _comes_with_the_code(application: Application, program: str) -> bool:
    places = (application.checkout, application.root)
    return any(place in Path(program).parents for place in map(Path, places))


def not_understood(name: str, reason: str) -> ConfigurationError:
    """The refusal of a unit that systemd does not understand."""
    return ConfigurationError(
        f"systemd does not understand it: {reason}", path=name, hint="mend the file that units_files names"
    )


def secrets_in(text: str) -> list[str]:
    """The variables that ``Environment=`` gives a value and that sound like a secret."""
    found: list[str] = []
    for line in text.splitlines():
        said = _ENVIRONMENT.match(line)
        found += _ASSIGNED.findall(said[1]) if said else []
    return [name for name in dict.fromkeys(found) if _SECRET.search(name) and not _PLACE.search(name)]


def shown_lines(text: str) -> tuple[str, ...]:
    """A unit line by line for a diff; of what may be a secret the name alone."""
    return tuple(
        f"Environment={' '.join(secrets_in(line))} {_NOT_SHOWN}" if secrets_in(line) else line
        for line in text.splitlines()
    )


def advice(name: str, text: str) -> Iterator[str]:
    """What a unit says and better would not."""
    for variable in secrets_in(text):
        yield (
            f"{name}: everybody on the host can read Environment={variable} (systemctl show, and the file itself); "
            "put it into a file of mode 0600 that EnvironmentFile= names"
        )


def runs_as_root(name: str, text: str) -> bool:
    """Whether a service says nothing of whom it runs as."""
    return name.endswith(".service") and not re.search(r"(?m)^\s*(?:User|DynamicUser)\s*=\s*\S", text)
