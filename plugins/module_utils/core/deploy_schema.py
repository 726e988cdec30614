# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a profile may say about deploys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .deploy_settings import (
    HOOK_STEPS,
    BackupFirst,
    CollisionPolicy,
    Dependencies,
    Deploy,
    HealthCheck,
    Hook,
    Layout,
)
from .errors import ConfigurationError
from .patterns import check_pattern
from .schema import Choice, ListOf, Number, Reader, Table, Text, wrong
from .vocabulary import ABSOLUTE_PATH, RELATIVE_PATH, SECRET_FILE

_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
# host:path, as ssh has it; a scheme of git's own; or a directory of this machine.
_REPOSITORY = re.compile(r"(?:(?:https?|ssh|git|file)://|/|[A-Za-z0-9_.-]+@?[A-Za-z0-9_.-]*:(?!:))[^\s]+")


def parse_repository(text: str) -> str:
    """Where git fetches from; nothing that git would take for an option or for a command to run."""
    if not text.isprintable() or not _REPOSITORY.fullmatch(text) or "::" in text:
        raise ValueError("https://, ssh://, user@host:path, or an absolute path")
    if re.match(r"[a-z]+://[^/@]*:[^/@]*@", text):
        raise ValueError("no password belongs here; use a key, or a credential helper of the owner's git")
    return text


def parse_branch(text: str) -> str:
    """The name of a branch (git-check-ref-format(1))."""
    if not _BRANCH.fullmatch(text) or ".." in text or text.endswith((".lock", "/", ".")) or "//" in text:
        raise ValueError("see git-check-ref-format(1)")
    return text


def parse_preserve(text: str) -> str:
    """A pattern, which a leading ``!`` takes back."""
    return ("!" if text.startswith("!") else "") + check_pattern(text[1:] if text.startswith("!") else text)


def parse_url(text: str) -> str:
    """A web address."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError("http://... or https://...")
    return text


@dataclass(frozen=True)
class Words:
    """A command line as a list of words; equal words may repeat."""

    minimum: int = 1

    def read(self, value: Any, path: str) -> tuple[str, ...]:
        """See schema.Reader."""
        if not isinstance(value, (list, tuple)):
            raise wrong(path, "a list of words, as no shell reads it", value, hint='write ["program", "argument"]')
        if len(value) < self.minimum:
            raise ConfigurationError("expected a program, found an empty list", path=path)
        for index, word in enumerate(value):
            if not isinstance(word, str) or not word or "\0" in word:
                raise wrong(f"{path}[{index}]", "a word", word)
        return tuple(value)


_SECONDS: Reader = Number(0.1, 86_400, whole=False)
_DEPENDENCIES = Table(
    {
        "lock_file": RELATIVE_PATH,
        "environment": RELATIVE_PATH,
        "python": Text("a Python interpreter"),
        "arguments": Words(minimum=0),
    },
    build=Dependencies,
)


def _build_health(**fields: Any) -> HealthCheck:
    if sum(bool(fields.get(key)) for key in ("url", "file", "command")) != 1:
        raise ValueError
    return HealthCheck(**fields)


@dataclass(frozen=True)
class _Health:
    table: Table

    def read(self, value: Any, path: str) -> HealthCheck:
        """See schema.Reader."""
        try:
            check: HealthCheck = self.table.read(value, path)
        except ValueError:
            raise ConfigurationError("expected exactly one of url, file and command", path=path) from None
        return check


_HEALTH = _Health(
    Table(
        {
            "url": Text("a web address", parse_url),
            "status": Number(100, 599),
            "file": RELATIVE_PATH,
            "max_age_seconds": _SECONDS,
            "command": Words(),
            "timeout_seconds": _SECONDS,
        },
        build=_build_health,
    )
)
_HOOK = Table(
    {"at": Choice(HOOK_STEPS), "command": Words(), "timeout_seconds": _SECONDS},
    required=("at", "command"),
    build=Hook,
)

DEPLOY = Table(
    {
        "directory": ABSOLUTE_PATH,
        "repository": Text("where git fetches from", parse_repository, show=False),
        "layout": Choice(tuple(item.value for item in Layout), Layout),
        "branches": ListOf(Text("the name of a branch", parse_branch)),
        "preserve": ListOf(Text("a pattern", parse_preserve)),
        "on_collision": Choice(tuple(item.value for item in CollisionPolicy), CollisionPolicy),
        "backup_first": Choice(tuple(item.value for item in BackupFirst), BackupFirst),
        "keep_releases": Number(1, 1000),
        "requires": ListOf(RELATIVE_PATH),
        "dependencies": _DEPENDENCIES,
        "health": ListOf(_HEALTH),
        "hooks": ListOf(_HOOK),
        "signers": ABSOLUTE_PATH,
        "ssh_key_file": SECRET_FILE,
        "known_hosts_file": ABSOLUTE_PATH,
    },
    build=Deploy,
)
