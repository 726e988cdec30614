# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The public keys that archives are encrypted to: which of them can be used, and until when.

One of several keys that has expired stops no backup to the others; it is named. The host's own key does not stand for
those of people: it is lost with the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Optional

from ..errors import EncryptionError
from ..formatting import counted

WARNING_TIME = timedelta(days=30)
"""How long before a key expires it is named."""
_EXPIRED, _REVOKED = "e", "r"
_GIVE = "give a key that is not expired or revoked"


@dataclass(frozen=True)
class PublicKey:
    """One key of a recipient, as gpg lists it.

    recipient: the file or fingerprint it came with. why_not: why nothing can be encrypted to it, or None. expires: when
    its part to encrypt with does, None for never.
    """

    recipient: str
    fingerprint: str
    why_not: Optional[str] = None
    expires: Optional[datetime] = None

    @property
    def usable(self) -> bool:
        """Whether something can be encrypted to it."""
        return self.why_not is None


def keys_listed(listing: str, recipient: str) -> list[PublicKey]:
    """The keys in a listing of ``gpg --with-colons --list-keys``. Raises EncryptionError for one that never could."""
    groups: list[list[list[str]]] = []
    for line in listing.splitlines():
        fields = line.split(":")
        if fields[0] == "pub":
            groups.append([])
        if groups and fields[0] in ("pub", "sub", "fpr"):
            groups[-1].append(fields)
    return [_key(group, recipient) for group in groups]


def _key(group: Sequence[list[str]], recipient: str) -> PublicKey:
    primary = group[0]
    fingerprint = next((fields[9] for fields in group if fields[0] == "fpr"), "")
    encrypting = [fields for fields in group if fields[0] in ("pub", "sub") and "e" in fields[11]]
    valid = [fields for fields in encrypting if fields[1] not in (_EXPIRED, _REVOKED, "i", "d")]
    ends = _ends(valid or [fields for fields in encrypting if fields[1] == _EXPIRED])
    expires = min((moment for moment in (_end(primary), ends) if moment is not None), default=None)
    why_not = None
    if "E" not in primary[11]:
        if primary[1] == _REVOKED:
            why_not = "was revoked"
        elif encrypting and (primary[1] == _EXPIRED or any(fields[1] == _EXPIRED for fields in encrypting)):
            why_not = "expired" if expires is None else f"expired on {expires:%Y-%m-%d}"
        elif encrypting and any(fields[1] == _REVOKED for fields in encrypting):
            why_not = "was revoked"
        else:
            raise EncryptionError("recipient's key cannot encrypt", path=recipient, hint=_GIVE)
    return PublicKey(recipient, fingerprint, why_not, expires)


def _ends(parts: Iterable[list[str]]) -> Optional[datetime]:
    """When the last of several parts ends; None where one never does."""
    ends = [_end(fields) for fields in parts]
    known = [moment for moment in ends if moment is not None]
    return max(known) if known and len(known) == len(ends) else None


def _end(fields: Sequence[str]) -> Optional[datetime]:
    return datetime.fromtimestamp(int(fields[6]), timezone.utc) if fields[6].isdigit() else None


def fingerprints_to_use(keys: Sequence[PublicKey], own: Optional[str] = None) -> tuple[str, ...]:
    """What to encrypt to. Raises EncryptionError where no key of people can be used.

    own: the file of the host's own key.
    """
    people = [key for key in keys if key.recipient != own] or list(keys)
    if not any(key.usable for key in people):
        bad = people[0]
        raise EncryptionError(
            f"recipient's key {bad.why_not}",
            path=bad.recipient,
            hint="have its owner renew it and install the public half anew, or give another key",
        )
    return tuple(dict.fromkeys(key.fingerprint for key in keys if key.usable))


def said_of_unusable(keys: Iterable[PublicKey]) -> list[str]:
    """One line for each key that archives are not encrypted to any more."""
    return [
        f"{key.recipient}: key {key.fingerprint[-16:]} {key.why_not}: new backups are not encrypted to it; "
        "have its owner renew it and install the public half anew, or remove it"
        for key in keys
        if not key.usable
    ]


def said_of_expiring(keys: Iterable[PublicKey], now: datetime) -> list[str]:
    """One line for each key that expires soon."""
    lines = []
    for key in keys:
        if key.usable and key.expires is not None and key.expires - now <= WARNING_TIME:
            days = max(0, (key.expires - now).days)
            lines.append(
                f"{key.recipient}: key {key.fingerprint[-16:]} expires on {key.expires:%Y-%m-%d}, "
                f"in {counted(days, 'day')}: from then on nothing is encrypted to it; "
                "have its owner renew it and install the public half anew"
            )
    return lines
