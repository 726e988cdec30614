# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Names of commits as people give them, and the one commit that each stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from ..errors import CommandError, UsageError
from .process import Git

# git-check-ref-format(1), and no way to say "two before that one", which is not one name for one commit.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/$|^/|\.$|(^|/)\.|\.lock(/|$)|^@$|^HEAD$")
_HEXADECIMAL = re.compile(r"^[0-9a-f]{4,64}$")
_WHOLE = (40, 64)


class RefKind(str, Enum):
    """What a name turned out to be."""

    BRANCH = "branch"
    TAG = "tag"
    COMMIT = "commit"
    OTHER = "other"


@dataclass(frozen=True)
class Resolved:
    """What a name stood for at one moment. tag: the name's annotated tag object, where it is one."""

    ref: str
    commit: str
    kind: RefKind
    tag: Optional[str] = None


def check_ref(ref: str) -> str:
    """Refuse what cannot be the name of a branch, tag or commit, and what git would take for an option."""
    if not ref or ref.startswith("-") or _FORBIDDEN.search(ref):
        raise UsageError(
            "is not the name of a branch, tag or commit", path=ref or "ref", hint="give one name, such as main or v1.2"
        )
    return ref


def is_whole(ref: str) -> bool:
    """Whether a name can be nothing but the full number of a commit."""
    return bool(_HEXADECIMAL.match(ref)) and len(ref) in _WHOLE


def resolve(git: Git, ref: str) -> Resolved:
    """The commit that a name stands for now; all meanings are read at one moment, and two of them are an error."""
    check_ref(ref)
    named = _named(git, ref)
    meant = named + [one for one in _numbered(git, ref) if one.commit not in {other.commit for other in named}]
    if not meant:
        raise CommandError(
            "the repository has no such branch, tag or commit", path=ref, hint="push it first, or name another"
        )
    if len({one.commit for one in meant}) > 1:
        told = ", ".join(f"{one.kind.value} {one.commit[:12]}" for one in meant[:5])
        raise CommandError(
            f"is ambiguous: {told}", path=ref, hint="give the full commit, or refs/heads/... or refs/tags/..."
        )
    # A tag first: where a branch and a tag agree, the tag may carry a signature.
    return next((one for one in meant if one.kind is RefKind.TAG), meant[0])


def _named(git: Git, ref: str) -> list[Resolved]:
    wanted = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    told = git.read("for-each-ref", "--format=%(objectname) %(objecttype) %(refname)", *wanted)
    found: list[Resolved] = []
    for line in told.splitlines():
        number, what, name = line.split(b" ", 2)
        full = _decoded(name)
        if full not in wanted:  # for-each-ref takes refs/heads/a for refs/heads/a/b too
            continue
        commit = _commit_of(git, number.decode())
        if commit is None:
            raise CommandError("does not stand for a commit", path=ref, hint="name a branch, tag or commit")
        found.append(Resolved(full, commit, _kind(full), number.decode() if what == b"tag" else None))
    return found


def _numbered(git: Git, ref: str) -> list[Resolved]:
    """Commits whose number begins so."""
    lower = ref.lower()
    if not _HEXADECIMAL.match(lower):
        return []
    numbers = [lower] if is_whole(lower) else git.read("rev-parse", f"--disambiguate={lower}").decode().split()
    told = git.read("cat-file", "--batch-check=%(objectname) %(objecttype)", text="\n".join(numbers).encode() + b"\n")
    commits = [line.split()[0] for line in told.decode().splitlines() if line.endswith(" commit")]
    return [Resolved(ref, commit, RefKind.COMMIT) for commit in commits]


def _commit_of(git: Git, number: str) -> Optional[str]:
    told = git.read("cat-file", "--batch-check=%(objectname) %(objecttype)", text=f"{number}^{{commit}}\n".encode())
    fields = told.decode().split()
    return fields[0] if len(fields) == 2 and fields[1] == "commit" else None


def _kind(full: str) -> RefKind:
    if full.startswith("refs/heads/"):
        return RefKind.BRANCH
    return RefKind.TAG if full.startswith("refs/tags/") else RefKind.OTHER


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
