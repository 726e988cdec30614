# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""One backup on disk: an archive and the two sidecars beside it, read without ever following a symlink."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from .names import ARCHIVE_SUFFIXES, ENCRYPTED_SUFFIX, SAFETY_LABELS, parse_any_name, parse_name, sidecars_of

LARGEST_SIDECAR = 16 << 20
_LONGEST_DAMAGE = 300
_CHECKSUM_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^\n/]+)\n?")


@dataclass(frozen=True)
class Backup:
    """What is known of one backup.

    name: the archive's file name. label: the NAME that somebody gave it. pinned: named and not yet released.
    sidecar: the ``.json`` beside it as written. problem: why it cannot be relied on, or None. damaged: whether
    that is all that is wrong with it: something of the data was damaged when it was made. released: whether a person
    has left it to retention.
    """

    path: Path
    name: str
    label: Optional[str]
    moment: datetime
    tier: Optional[str]
    pinned: bool
    encrypted: bool
    size: int
    sha256: Optional[str]
    sidecar: Mapping[str, Any] = field(default_factory=dict, repr=False)
    verified_at: Optional[datetime] = None
    verified_level: Optional[str] = None
    drilled_at: Optional[datetime] = None
    drilled_from: Optional[str] = None
    drilled_verdict: Optional[str] = None
    problem: Optional[str] = None
    damaged: bool = False
    released: bool = False

    @property
    def is_safety(self) -> bool:
        """Whether it was made to undo one operation, and is no backup for every day."""
        return self.label in SAFETY_LABELS

    @property
    def application(self) -> Optional[str]:
        """Whose it is, where its sidecar says so."""
        return _text(self.sidecar.get("application"))

    @property
    def profile(self) -> Optional[str]:
        """The profile it was made by, where its sidecar says so."""
        return _text(self.sidecar.get("profile"))

    @property
    def good(self) -> bool:
        """Whole, and verified with success when it was last verified."""
        return self.problem is None and self.verified_at is not None

    def as_dict(self) -> dict[str, Any]:
        """The backup as ``--json`` and module results show it."""
        return {
            "path": str(self.path),
            "name": self.name,
            "label": self.label,
            "moment": iso(self.moment),
            "tier": self.tier,
            "pinned": self.pinned,
            "encrypted": self.encrypted,
            "size": self.size,
            "sha256": self.sha256,
            "verified_at": None if self.verified_at is None else iso(self.verified_at),
            "verified_level": self.verified_level,
            "drilled_at": None if self.drilled_at is None else iso(self.drilled_at),
            "drilled_from": self.drilled_from,
            "drilled_verdict": self.drilled_verdict,
            "good": self.good,
            "problem": self.problem,
        }


def iso(moment: datetime) -> str:
    """``2026-01-31T02:00:00Z``."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text: object) -> Optional[datetime]:
    """The moment that ``iso`` wrote, or None for anything else."""
    try:
        return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def read_backup(path: Path, prefix: str, record: Optional[Mapping[str, Any]] = None) -> Backup:
    """What an archive, its sidecars and the record of its last verification say. Never raises for bad content.

    record: the entry of the state directory's catalog for this archive (verified_at, level, ok, problems, released,
    drill).
    """
    status = os.lstat(path)
    checksum_name, sidecar_name = sidecars_of(path.name)
    problems: list[str] = []
    sidecar = _read_sidecar(path.with_name(sidecar_name), problems)
    listed = _read_checksum(path.with_name(checksum_name), path.name, problems)
    _compare(status, sidecar, listed, problems)
    damage = _damage(sidecar)
    problems.extend(damage)
    sha256 = listed or _text(sidecar.get("sha256"))
    verified_at, level = _verification(sidecar, record, sha256, problems)
    drill = _drill(record, sha256)
    parsed = parse_name(prefix, path.name) or (parse_any_name(path.name) if sidecar else None)
    label = parsed.name if parsed else None
    released = bool((record or {}).get("released", False))
    return Backup(
        path=path,
        name=path.name,
        label=label,
        moment=parsed.moment if parsed else datetime.fromtimestamp(int(status.st_mtime), timezone.utc),
        tier=_text(sidecar.get("tier")),
        pinned=label is not None and not released,
        encrypted=path.name.endswith(ENCRYPTED_SUFFIX),
        size=status.st_size,
        sha256=sha256,
        sidecar=sidecar,
        verified_at=verified_at,
        verified_level=level,
        drilled_at=parse_iso(drill.get("at")),
        drilled_from=_text(drill.get("source")),
        drilled_verdict=_text(drill.get("verdict")),
        problem="; ".join(problems) or None,
        damaged=bool(damage) and problems == damage and verified_at is not None,
        released=released,
    )


def is_archive_name(name: str) -> bool:
    """Whether a file name ends like an archive's."""
    return name.endswith(ARCHIVE_SUFFIXES)


def read_small(path: Path, largest: int = LARGEST_SIDECAR) -> bytes:
    """The content of a regular file, no symlink; raises OSError or ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        data = stream.read(largest + 1)
    if len(data) > largest:
        raise ValueError("too large")
    return data


def _text(value: object) -> Optional[str]:
    return value if isinstance(value, str) else None


def _read_sidecar(path: Path, problems: list[str]) -> Mapping[str, Any]:
    try:
        content = json.loads(read_small(path))
    except FileNotFoundError:
        problems.append("no .json sidecar")
        return {}
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"unreadable .json sidecar ({_reason(error)})")
        return {}
    if not isinstance(content, dict):
        problems.append("unreadable .json sidecar (not an object)")
        return {}
    return content


def _read_checksum(path: Path, archive: str, problems: list[str]) -> Optional[str]:
    try:
        match = _CHECKSUM_LINE.fullmatch(read_small(path, 4096).decode("utf-8"))
    except FileNotFoundError:
        problems.append("no .sha256 sidecar")
        return None
    except (OSError, ValueError) as error:
        problems.append(f"unreadable .sha256 sidecar ({_reason(error)})")
        return None
    if match is None or match[2] != archive:
        problems.append("the .sha256 sidecar does not name this archive")
        return None
    return match[1]


def _compare(status: os.stat_result, sidecar: Mapping[str, Any], listed: Optional[str], problems: list[str]) -> None:
    if not stat.S_ISREG(status.st_mode):
        problems.append("not a regular file")
    elif "size" in sidecar and sidecar["size"] != status.st_size:
        problems.append(f"has {status.st_size} bytes, should have {sidecar['size']}")
    if listed and sidecar.get("sha256") not in (None, listed):
        problems.append("the two sidecars name different checksums")


def _damage(sidecar: Mapping[str, Any]) -> list[str]:
    """What the profile requires and was damaged already when it was backed up: then it is no backup to rely on."""
    said = sidecar.get("damaged")
    if not isinstance(said, list) or not said:
        return []
    more = f" and {len(said) - 1} more" if len(said) > 1 else ""
    return [f"damaged when it was made: {str(said[0])[:_LONGEST_DAMAGE]}{more}"]


def _verification(
    sidecar: Mapping[str, Any], record: Optional[Mapping[str, Any]], sha256: Optional[str], problems: list[str]
) -> tuple[Optional[datetime], Optional[str]]:
    """When and how thoroughly it was last verified. A record of other content under the same name says nothing."""
    if record and "ok" in record and record.get("sha256") == sha256:
        if not record["ok"]:
            found = record.get("problems") or ["no details"]
            problems.append(f"verification failed on {str(record.get('verified_at'))[:10]}: {found[0]}")
        return parse_iso(record.get("verified_at")), _text(record.get("level"))
    proof = sidecar.get("verified")
    if not isinstance(proof, dict) or not proof or proof.get("ok") is False:
        return None, None
    return parse_iso(proof.get("at")) or parse_iso(sidecar.get("created")), _text(proof.get("level"))


def _drill(record: Optional[Mapping[str, Any]], sha256: Optional[str]) -> Mapping[str, Any]:
    """What the last drill of it came to. A record of other content under the same name says nothing."""
    drill = (record or {}).get("drill")
    return drill if isinstance(drill, dict) and drill.get("sha256") == sha256 else {}


def _reason(error: BaseException) -> str:
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
