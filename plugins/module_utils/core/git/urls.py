# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Where code may come from, and how such an address is shown: without the secrets in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional
from urllib.parse import unquote

from ..errors import ConfigurationError

_SECRET = re.compile(r"(?i)\b(https?://)[^/@\s]+@|\b((?:ssh|git)://[^/@:\s]*):[^/@\s]*@")
_WITH_USER = re.compile(r"(?i)^(https?://)([^/@]*)@(.*)$")
_SCP = re.compile(r"^(?:[A-Za-z0-9_][A-Za-z0-9_.+-]*@)?[A-Za-z0-9\[][A-Za-z0-9_.:\[\]-]*:(?![:/]{2})[^-].*$")
_SSH = re.compile(r"(?i)^ssh://(?:[A-Za-z0-9_][^/@]*@)?[A-Za-z0-9\[]")
_HERE = re.compile(r"(?i)^http://(localhost|127\.0\.0\.1|\[::1\])[:/]")
_HTTPS = re.compile(r"(?i)^https://[A-Za-z0-9\[]")


def mask_url(text: str) -> str:
    """A URL, or any text with URLs in it, without user names and passwords of https and passwords of ssh."""
    return _SECRET.sub(lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}:***@", text)


@dataclass(frozen=True)
class Source:
    """A checked address of a repository. ``url`` is without credentials and may be shown and kept."""

    url: str
    user: Optional[str] = None
    password: Optional[str] = None

    @property
    def secret(self) -> bool:
        """Whether credentials came with the address."""
        return self.user is not None


def source_of(url: str) -> Source:
    """Check an address: https, ssh (also ``git@host:path``), file or an absolute path. Raises ConfigurationError.

    Whatever runs a program (``ext::``) or cannot tell who answers (``git://``, ``http://``) is refused.
    """
    if not url or url != url.strip() or any(not c.isprintable() for c in url):
        raise _refused(url, "is empty or has blanks or control characters in it")
    if url.startswith("-"):
        raise _refused(url, "looks like an option")
    if re.match(r"^[A-Za-z0-9_.+-]+::", url):
        raise _refused(url, "names a remote helper, which may run any program")
    if url.startswith("/") or url.lower().startswith("file:///"):
        return Source(url)
    bare, user, password = _without_credentials(url)
    if _HTTPS.match(bare) or _HERE.match(bare):
        return Source(bare, user, password)
    if "://" not in url and _SCP.match(url):
        return Source(url)
    if _SSH.match(url):
        if re.match(r"(?i)^ssh://[^/@:]*:[^/@]*@", url):
            raise _refused(url, "has a password in it, which ssh does not take", "use a key file")
        return Source(url)
    raise _refused(url, "is not an address that code may come from")


def _without_credentials(url: str) -> tuple[str, Optional[str], Optional[str]]:
    found = _WITH_USER.match(url)
    if found is None:
        return url, None, None
    user, colon, password = found[2].partition(":")
    return found[1] + found[3], unquote(user), unquote(password) if colon else ""


def _refused(
    url: str, why: str, hint: str = "use https://, ssh://, git@host:path, file:/// or an absolute path"
) -> ConfigurationError:
    return ConfigurationError(why, path=mask_url(url) or "repository", hint=hint)
