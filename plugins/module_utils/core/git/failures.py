# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What git's complaints mean, as one line with a way out."""

from __future__ import annotations

import re
from typing import Optional

from ..errors import CommandError, SpaceError, TradekeepError
from .urls import mask_url

# Looked for in this order in all that git and its helpers wrote to standard error.
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    (
        r"remote host identification has changed",
        "the server shows another host key than the known one",
        "find out why before you change known_hosts",
    ),
    (
        r"host key verification failed|host key is known|no matching host key",
        "the server's host key is not known",
        "put its key into the known_hosts file, after comparing the fingerprint",
    ),
    (
        r"unprotected private key|bad permissions",
        "ssh does not use a key that others can read",
        "chmod 0600 the key",
    ),
    (
        r"permission denied \(|authentication failed|could not read username|could not read password"
        r"|terminal prompts disabled|invalid username or|error: 401|error: 403",
        "the server refused the login",
        "let it in there: a deploy key (ssh_key_file) or credentials that may read the repository",
    ),
    (
        r"no user exists for uid",
        "ssh needs an account with a name",
        "create the owner with useradd, or use another address",
    ),
    (
        r"couldn't find remote ref|not our ref|no such remote ref",
        "the repository has no such branch, tag or commit",
        "push it first, or name another",
    ),
    (
        r"repository .*not found|does not appear to be a git repository|repository .*does not exist|error: 404",
        "there is no such repository, or no right to read it",
        "check the address and the key",
    ),
    (
        r"could not resolve host|name or service not known|temporary failure in name resolution",
        "the server's name cannot be resolved",
        "check the address and the network",
    ),
    (
        r"connection refused|connection timed out|network is unreachable|no route to host|timed out"
        r"|failed to connect|connection reset|couldn't connect|connection closed|the remote end hung up",
        "the server cannot be reached",
        "check the address and the network, then run again",
    ),
    (r"certificate", "the server's certificate cannot be trusted", "check the address and the clock"),
    (
        r"transport '.*' not allowed",
        "the address uses a transport that is not allowed",
        "use https, ssh, file or an absolute path",
    ),
    (
        r"dubious ownership",
        "the repository belongs to another account",
        "give it to the application's owner with chown -R",
    ),
    (
        r"insufficient permission for adding an object|unable to (?:create|write).*permission denied",
        "parts of the repository belong to another account",
        "give all of it to the application's owner with chown -R",
    ),
    (r"unknown option|unknown subcommand", "git is too old", "install git 2.30 or newer"),
    (
        r"\.lock': file exists",
        "a lock file of git is in the way",
        "wait for the other git, or remove the .lock file when there is none",
    ),
    (
        r"smudge filter .*failed|clean filter .*failed|external filter",
        "a filter of the repository failed",
        "run it by hand as the owner",
    ),
    (
        r"loose object .* is corrupt|object file .* is empty|bad object|missing (?:blob|tree|commit)"
        r"|unable to read (?:tree|sha1|blob)|index file (?:corrupt|smaller)|bad signature 0x|packfile .* cannot be",
        "the repository is damaged",
        "see git fsck; the mirror may be removed and is fetched again",
    ),
)
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_SPOKEN = re.compile(r"^(?:remote: )?(?:fatal|error|ssh|git): *", re.IGNORECASE)


def failure_of(said: str, *, path: Optional[object] = None, status: Optional[int] = None) -> TradekeepError:
    """The engine's error for what git said on standard error; credentials in it are masked."""
    said = mask_url(said)
    where = None if path is None else mask_url(str(path))
    if _FULL.search(said):
        return SpaceError("the disk is full", path=where, hint="free some space and run again")
    for pattern, message, hint in _MEANINGS:
        found = re.search(pattern, said, re.IGNORECASE)
        if found is not None:
            detail = _telling(said, found)
            return CommandError(f"{message}: {detail}" if detail else message, path=where, hint=hint)
    return CommandError(f"git failed: {_telling(said) or f'exit status {status}'}", path=where)


def _telling(said: str, meant: Optional[re.Match[str]] = None) -> str:
    """The line that says most: of a refused login ssh's own, else the first fatal one, the first error, the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if meant is not None and meant[0].lower().startswith("permission denied"):
        return next(line for line in lines if meant[0] in line)[:300]
    for sign in ("fatal:", "error:"):
        for line in lines:
            if line.lower().startswith(sign):
                return _SPOKEN.sub("", line)[:300]
    return lines[-1][:300] if lines else ""
