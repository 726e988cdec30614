# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A guide as a person follows it: its fenced blocks, in order, at a desk and on the server."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

TOP = Path(__file__).resolve().parents[3]
SERVER = "bot1.example.com"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Command:
    """A line that begins with a prompt, and what the guide shows below it."""

    at_desk: bool
    text: str
    output: list[str] = field(default_factory=list)


def commands(guide: str, heading: str) -> list[Command]:
    """The commands below one heading of a guide."""
    text = (TOP / "docs" / guide).read_text(encoding="utf-8")
    chapter = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert chapter, f"{guide} has no heading {heading}"
    found: list[Command] = []
    for language, block in BLOCK.findall(chapter):
        for line in block.splitlines() if language == "console" else ():
            if line.startswith(("$ ", "# ")):
                found.append(Command(line.startswith("$"), line[2:]))
            else:
                found[-1].output.append(line)
    assert found, f"{guide}, {heading}: no commands"
    return found


def files(guide: str) -> dict[str, str]:
    """The files that a guide shows, by the name in their first line."""
    text = (TOP / "docs" / guide).read_text(encoding="utf-8")
    blocks = [block.partition("\n") for language, block in BLOCK.findall(text) if language in ("yaml", "ini")]
    return {first[2:]: rest for first, _newline, rest in blocks if first.startswith("# inventories/")}


class Desk:
    """Where the person works: a home of their own, the checkout's settings, and an ssh that knows the server."""

    def __init__(self, home: Path, variables: dict[str, str], repository: str) -> None:
        self.home = home
        self.checkout = home / "tradekeep.ops"
        self._settings = home / ".ssh" / "config"
        self._furnish(variables)
        programs = self._programs()
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "GNUPGHOME": str(home / ".gnupg"),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(TOP / ".cache" / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
        }
        # Where packages come from; a real server knows that by itself.
        proxy = f'Acquire::http::Proxy "{repository}";'
        self.on_server(f"echo {shlex.quote(proxy)} > /etc/apt/apt.conf.d/95relay")

    def _furnish(self, variables: dict[str, str]) -> None:
        for place in (self.checkout, self.home / ".ssh", self.home / ".gnupg"):
            place.mkdir(parents=True, mode=0o700)
        (self.checkout / "ansible.cfg").write_text((TOP / "ansible.cfg").read_text())
        # The person who answers gpg's question for a passphrase with none.
        (self.home / ".gnupg/gpg.conf").write_text("batch\npinentry-mode loopback\npassphrase ''\n")
        options = shlex.split(variables["ansible_ssh_common_args"])
        known = "".join(f"  {option.replace('=', ' ', 1)}\n" for option in options if option != "-o")
        self._settings.write_text(
            f"Host {SERVER}\n  HostName {variables['ansible_host']}\n  HostKeyAlias {variables['ansible_host']}\n"
            f"  IdentityFile {variables['ansible_ssh_private_key_file']}\n{known}"
        )

    def _programs(self) -> Path:
        """The ssh programs find their settings by the account, not by HOME: they are told."""
        place = self.home / "bin"
        place.mkdir()
        for name in ("ssh", "scp", "sftp"):
            (place / name).write_text(f'#!/bin/sh\nexec /usr/bin/{name} -F {self._settings} "$@"\n')
            (place / name).chmod(0o755)
        return place

    def run(self, command: str, statuses: tuple[int, ...] = (0,)) -> str:
        """Run a line at the desk; it must end with one of the statuses."""
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=self.checkout,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode in statuses, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def on_server(self, command: str, statuses: tuple[int, ...] = (0,)) -> str:
        """Run a line on the server as root."""
        return self.run(f"ssh root@{SERVER} {shlex.quote(command)}", statuses)

    def follow(
        self,
        guide: str,
        heading: str,
        replace: Optional[dict[str, str]] = None,
        statuses: tuple[int, ...] = (0,),
    ) -> dict[str, str]:
        """Run the chapter line by line, and hold what it shows against what is said. Returns what each command said."""
        said: dict[str, str] = {}
        for command in commands(guide, heading):
            text = command.text
            for shown, real in (replace or {}).items():
                text = text.replace(shown, real)
            said[command.text] = (self.run if command.at_desk else self.on_server)(text, statuses)
            for line in command.output:
                assert alike(line) in map(alike, said[command.text].splitlines()), said[command.text]
        return said


def alike(line: str) -> str:
    """A line without what differs from day to day: numbers and the widths of columns."""
    return re.sub(r"\s+", " ", re.sub(r"\d+(\.\d+)?", "0", line)).strip()
