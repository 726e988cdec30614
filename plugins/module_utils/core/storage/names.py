# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Names of backups: ``<prefix>_YYYYmmdd_HHMMSS[_LABEL].tar.gz[.gpg]``, in UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Optional

from ..errors import UsageError

COMPRESSION_SUFFIXES = {"gzip": ".tar.gz", "zstd": ".tar.zst"}
_MEDIA = {"gz": "gzip", "zst": "zstd", "tar.gz": "gzip", "tar.zst": "zstd"}
ENCRYPTED_SUFFIX = ".gpg"
CHECKSUM_SUFFIX = ".sha256"
SIDECAR_SUFFIX = ".json"
TEMPORARY_PREFIX = ".tradekeep-"
SAFETY_LABEL = "before_restore"
DEPLOY_LABEL = "before_deploy"
MIGRATE_LABEL = "before_migrate"
GIVEN_UP_LABEL = "given_up"
SAFETY_LABELS = (SAFETY_LABEL, DEPLOY_LABEL, MIGRATE_LABEL, GIVEN_UP_LABEL)
"""The NAMEs of backups that are made to undo one restore, deploy or migration; never taken for the latest one."""
LATEST_STEM = "latest_backup"

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REST = re.compile(
    r"_(?P<moment>[0-9]{8}_[0-9]{6})(?:_(?P<label>[A-Za-z0-9][A-Za-z0-9._-]{0,63}))?"
    r"\.tar\.(?P<compression>gz|zst)(?P<encrypted>\.gpg)?"
)
_ANY = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]*?{_REST.pattern}")
_MOMENT = "%Y%m%d_%H%M%S"


@dataclass(frozen=True)
class ParsedName:
    """What the name of a backup says; ``name`` is the label that somebody gave it."""

    filename: str
    moment: datetime
    name: Optional[str]
    compression: str
    encrypted: bool

    @property
    def suffix(self) -> str:
        """``.tar.gz``, ``.tar.gz.gpg``, ``.tar.zst`` or ``.tar.zst.gpg``."""
        return archive_suffix(self.compression, encrypted=self.encrypted)

    @property
    def stem(self) -> str:
        """The file name without its suffix."""
        return self.filename[: -len(self.suffix)]


def archive_suffix(compression: str, *, encrypted: bool) -> str:
    """What the file name of such an archive ends with."""
    compression = compression.lstrip(".")
    suffix = COMPRESSION_SUFFIXES.get(_MEDIA.get(compression, compression))
    if suffix is None:
        raise UsageError(f"unknown compression {compression!r}", hint="use gzip or zstd")
    return suffix + (ENCRYPTED_SUFFIX if encrypted else "")


ARCHIVE_SUFFIXES = tuple(
    archive_suffix(compression, encrypted=encrypted)
    for compression in COMPRESSION_SUFFIXES
    for encrypted in (False, True)
)


def check_name(name: str) -> str:
    """Return the label of a named backup; raises UsageError when it does not belong into a file name."""
    if not _LABEL.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a backup",
            hint="use up to 64 letters, digits, dots, dashes and underscores, and begin with a letter or digit",
        )
    return name


def backup_name(
    prefix: str,
    moment: datetime,
    name: Optional[str] = None,
    compression: str = "gzip",
    encrypted: bool = False,
) -> str:
    """The file name of a backup made at ``moment`` (aware; written in UTC).

    compression: ``gzip`` or ``zstd``, or the suffix that stands for it.
    """
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(f"{prefix!r} cannot begin the name of a backup", hint="correct archive_prefix in the profile")
    if moment.tzinfo is None:
        raise UsageError("the moment of a backup needs a time zone")
    label = "" if name is None else "_" + check_name(name)
    when = moment.astimezone(timezone.utc).strftime(_MOMENT)
    return f"{prefix}_{when}{label}{archive_suffix(compression, encrypted=encrypted)}"


def parse_name(prefix: str, filename: str) -> Optional[ParsedName]:
    """What a file name says, or None when it does not name a backup of this prefix."""
    if not filename.startswith(prefix):
        return None
    match = _REST.fullmatch(filename[len(prefix) :])
    return None if match is None else _parsed(filename, match)


def parse_any_name(filename: str) -> Optional[ParsedName]:
    """The same for a backup of whatever prefix; the first moment in the name counts."""
    match = _ANY.fullmatch(filename)
    return None if match is None else _parsed(filename, match)


def _parsed(filename: str, match: re.Match[str]) -> Optional[ParsedName]:
    try:
        moment = datetime.strptime(match["moment"], _MOMENT).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return ParsedName(
        filename=filename,
        moment=moment,
        name=match["label"],
        compression="gzip" if match["compression"] == "gz" else "zstd",
        encrypted=match["encrypted"] is not None,
    )


def one_second_later(prefix: str, parsed: ParsedName) -> ParsedName:
    """The next name to try when this one is taken."""
    moment = parsed.moment + timedelta(seconds=1)
    filename = backup_name(prefix, moment, parsed.name, parsed.compression, parsed.encrypted)
    return ParsedName(filename, moment, parsed.name, parsed.compression, parsed.encrypted)


def sidecars_of(filename: str) -> tuple[str, str]:
    """The names of the checksum and of the catalog entry beside an archive."""
    return filename + CHECKSUM_SUFFIX, filename + SIDECAR_SUFFIX


def archive_of_sidecar(filename: str) -> Optional[str]:
    """The archive that a sidecar belongs to, or None when it is no sidecar of an archive."""
    for suffix in (CHECKSUM_SUFFIX, SIDECAR_SUFFIX):
        if filename.endswith(suffix):
            archive = filename[: -len(suffix)]
            return archive if archive.endswith(ARCHIVE_SUFFIXES) else None
    return None
