# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A directory as the source of a migration: captured file by file as a backup would, never written."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Optional

from ...application import Application, BotPath
from ...archive.holes import DataDigest
from ...archive.manifest import DATA_BYTES, MANIFEST_NAME, Entry, Header, parse_first_line
from ...archive.members import LayoutOfForeign
from ...errors import (
    CaptureError,
    ChangedWhileReadError,
    CheckError,
    EmptyError,
    OtherContentError,
    TradekeepError,
    UnsafePathError,
    UsageError,
)
from ...git.not_data import BesideData
from ...host.account import Account
from ...host.files import os_errors, write_all
from ...host.filesystem.holes import data_bytes, placed, write_pieces
from ...host.filesystem.identity import acting_as
from ...kinds import kind_named
from ...kinds.base import NO_FACTS, CaptureContext, Captured, Signature
from ...kinds.reading import open_regular, signature_of
from ...kinds.sqlite import SIDECAR_SUFFIXES
from ...patterns import Classifier, classifier
from ...ports import Ports
from ...signals import answer
from ...transaction.stage import Stage
from ..found import OWN_PREFIX, Found, lies_too_deep
from ..kind_of import is_sidecar, tied
from ..places import places
from ..restore_plan import Item, entry_facts
from ..scan import found_at, scan
from .credentials import LARGEST, credential_problem
from .entries import EntryMaker
from .origin import Held, Refused, SourceFacts, nothing_of_profile, refusal_of, refuse_other_profile
from .source_rights import SourceRights

_ATTEMPTS = 4
_CHUNK = 1 << 20
_LONGEST_FIRST_LINE = 1 << 20


def refuse_directory(application: Application, given: Path) -> None:
    """Raises for a directory that cannot be a source at all: a symlink, empty, or entangled with the target."""
    with os_errors(given):
        status = given.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise UnsafePathError("the source is a symlink", path=given, hint=f"name {os.path.realpath(given)}")
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError("is neither a directory nor an archive", path=given, hint="name one of them")
    with os_errors(given):
        if not any(given.iterdir()):
            raise UsageError("the source is empty", path=given, hint="name the directory that holds the data")
    root = Path(application.root)
    if _is_within(root, given):
        what = "is the live data itself" if _is_within(given, root) else "contains the live data"
        raise UsageError(f"the source {what}", path=given, hint="name a directory apart from it")
    if _is_within(given, root):
        raise UsageError("the source lies inside the live data", path=given, hint="move it out of there first")


def _is_within(path: Path, directory: Path) -> bool:
    """Whether a path is a directory or lies beneath it, by what they are and not by what they are called."""
    real = Path(os.path.realpath(path))
    return directory.exists() and any(os.path.samefile(item, directory) for item in (real, *real.parents))


def find_root(application: Application, given: Path) -> Path:
    """Where the data begins: the directory itself, or one that the old scripts put around it."""
    names = sorted(item for item in given.iterdir() if item.is_dir() and not item.is_symlink())
    data = LayoutOfForeign.DATA
    for candidates in ([given], [given / data], [item / data for item in names], names):
        matching = [place for place in candidates if _holds_some(application, place)]
        if len(matching) > 1:
            raise UsageError(
                f"holds several: {matching[0].relative_to(given)} and {matching[1].relative_to(given)}",
                path=given,
                hint="name the one that is meant",
            )
        if matching:
            return matching[0]
    raise nothing_of_profile(application, given)


def _holds_some(application: Application, place: Path) -> bool:
    if place.is_symlink() or not place.is_dir():
        return False
    return any(
        os.path.lexists(place / path)
        for item in application.profile.components
        for path in places(str(place), item.paths)
    )


def _moved_to(application: Application, root: Path) -> Application:
    """The application as it would be there; what is code there, the git there says.

    Symlinks of a source are followed nowhere: the places that the profile names are this host's.
    """
    components = tuple(replace(item, follow_links=()) for item in application.profile.components)
    profile = replace(application.profile, components=components)
    if profile.not_data is not None:
        profile = replace(profile, not_data=BesideData(application, root))
    return replace(application, root=BotPath(root), profile=profile)


class DirectoryOrigin:
    """A directory, found to hold data of the application."""

    def __init__(
        self,
        application: Application,
        ports: Ports,
        root: Path,
        scratch: Path,
        facts: SourceFacts,
        rights: SourceRights,
        left_out: Sequence[Refused] = (),
        apart: Optional[Apart] = None,
    ) -> None:
        """facts: of the source as it was given. left_out: what did not get as far as this directory.

        rights: what it is read with, and whose the scratch directory is. What arrives here is written with those that
        the caller has. apart: where databases are looked at by another account than the one that reads them.
        """
        self._apart = apart
        self._rights = rights
        self._there = _moved_to(application, root)
        self._root = root
        self._ports = ports
        self._context = CaptureContext(scratch=scratch, clock=ports.clock)
        self._entries = EntryMaker()
        self._credentials: dict[str, Optional[str]] = {}
        with rights.acting():
            header = _header_in(root)
        if header is not None:
            refuse_other_profile(application, header, facts.given)
            facts = replace(
                facts, host=header.host, created=header.created, tool=header.tool, profile=header.profile, format=1
            )
        self.facts = facts
        with rights.acting():
            self.held = self._look(left_out)

    def _look(self, left_out: Sequence[Refused]) -> Held:
        entries: list[Entry] = []
        refused = list(left_out)
        seen: set[str] = set()
        self._ports.progress.start("reading the source")
        for found in scan(self._there):
            seen.add(found.path)
            target = os.readlink(found.absolute) if found.type == "symlink" else None
            why = refusal_of(found.path, found.type, found.mode, target)
            if why is not None:
                refused.append(Refused(found.path, why))
                continue
            entry = self._read(found, None)
            if entry is not None:
                entries.append(entry)
        self._ports.progress.finish()
        left = tuple(left_in(self._there, self._root, seen))
        return Held(tuple(entries), tuple(refused), left, dict(self._credentials))

    def fill(self, stage: Stage, changes: Sequence[Item]) -> list[Item]:
        """See Origin. A file that is gone by now fails the migration: nobody can say what it should be."""
        written: list[Item] = []
        for item in changes:
            if item.entry is None:
                written.append(item)
                continue
            entry = self._bring(item.path, stage.path_for(item.path))
            if entry is None:
                raise CaptureError(
                    "was removed from the source while it was migrated",
                    path=self._root / item.path,
                    hint="stop what writes there and run again",
                )
            written.append(replace(item, entry=entry, after=entry_facts(entry)))
        self._require_together([item.entry for item in written if item.entry is not None])
        return written

    def _require_together(self, entries: Sequence[Entry]) -> None:
        """A database that is taken as bytes and its WAL were read one after the other: neither may have changed."""
        together = tied([entry.path for entry in entries])
        for entry in entries if together else ():
            if entry.path not in together:
                continue
            with self._rights.acting(), os_errors(self._root / entry.path):
                status = os.lstat(self._root / entry.path)
            if (status.st_size, status.st_mtime_ns) != (entry.size, entry.mtime_ns):
                raise CaptureError(
                    "was written while it and what lies beside it were migrated",
                    path=self._root / entry.path,
                    hint="stop what writes there and run again",
                )

    def _bring(self, path: str, staged: str) -> Optional[Entry]:
        with self._rights.acting():
            found = found_at(self._there, path, str(self._root / path))
        if found is None:
            return None
        if found.type != "file":
            entry = self._bare(found)
            if entry is not None and entry.target is not None:
                with os_errors(staged):
                    os.makedirs(os.path.dirname(staged), mode=0o700, exist_ok=True)
                    os.symlink(entry.target, staged)
            return entry
        descriptor = _new_file(staged)
        try:
            with self._rights.acting():
                return self._read(found, descriptor)
        finally:
            os.close(descriptor)

    def _read(self, found: Found, staged: Optional[int]) -> Optional[Entry]:
        """One thing, hashed and, where an open file for it is given, written there; None when it is gone."""
        if found.type != "file":
            return self._bare(found)
        for attempt in range(_ATTEMPTS):
            try:
                return self._capture(found, staged, copy_first=attempt > 0)
            except ChangedWhileReadError:
                again = found_at(self._there, found.path, found.absolute)
                if again is None:
                    return None
                if attempt == _ATTEMPTS - 1:
                    raise
                found = again
            except (EmptyError, OtherContentError) as error:
                if found.required or found.kind != "sqlite":
                    raise _not_migrated(found, error) from error
                # Only its name is a database's: taken as it is, as a backup does.
                found = found._replace(kind="file")
            except (CaptureError, CheckError) as error:
                if _is_gone(found.absolute):
                    return None
                raise _not_migrated(found, error) from error
        raise CaptureError("changes too fast", path=found.absolute, hint="stop what writes there and run again")

    def _bare(self, found: Found) -> Optional[Entry]:
        try:
            with self._rights.acting():
                status = os.lstat(found.absolute)
                target = os.readlink(found.absolute) if found.type == "symlink" else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        return self._entries.entry(found, status, 0, NO_FACTS)._replace(target=target)

    def _capture(self, found: Found, staged: Optional[int], *, copy_first: bool) -> Entry:
        context = replace(self._context, copy_first=copy_first)
        if found.kind == "sqlite" and self._apart is not None:
            with self._apart.copy_of(Path(found.absolute)) as (copy, status), acting_as(self._apart.account):
                captured = kind_named("sqlite").capture(copy, replace(context, scratch=self._apart.scratch))
                entry, beginning = self._taken(found, captured, staged)
            entry = entry._replace(**_rights_in(self._entries.entry(found, status, entry.size, NO_FACTS)))
        else:
            captured = kind_named(found.kind or "file").capture(Path(found.absolute), context, found.signature)
            entry, beginning = self._taken(found, captured, staged)
        self._ports.progress.advance(entry.size)
        classified = classifier(self._there.profile).file(found.path)
        if classified is not None and classified.secret and entry.size <= LARGEST:
            self._credentials[found.path] = credential_problem(found.path, beginning)
        return entry

    def _taken(self, found: Found, captured: Captured, staged: Optional[int]) -> tuple[Entry, bytes]:
        """The entry of what was captured, and the beginning of it."""
        with captured:
            entry = self._entries.entry(found, captured.status, captured.size, captured.facts)
            if captured.extents is not None:
                digest, beginning = _copy_sparse(captured, staged), b""
                entry = entry._replace(facts={**entry.facts, DATA_BYTES: data_bytes(captured.extents)})
            else:
                with captured.open() as stream:
                    digest, beginning = _copy(stream, captured.size, staged)
            captured.confirm()
        return entry._replace(sha256=digest), beginning


@dataclass(frozen=True)
class Apart:
    """Where databases that root alone can read are looked at: as copies, by an account that has no other right.

    scratch: a directory of that account's.
    """

    account: Account
    scratch: Path

    @contextmanager
    def copy_of(self, database: Path) -> Iterator[tuple[Path, os.stat_result]]:
        """A copy of a database that holds still, with what belongs to it; and the status of the database.

        Raises ChangedWhileReadError for one that does not.
        """
        before = _signatures(database)
        status = os.lstat(database)
        copy = self.scratch / f"source-{secrets.token_hex(8)}.db"
        try:
            for suffix in ("", "-wal", "-journal"):
                if suffix in before:
                    self._copy(Path(f"{database}{suffix}"), Path(f"{copy}{suffix}"))
            if _signatures(database) != before:
                raise ChangedWhileReadError("changed while it was read", path=database)
            yield copy, status
        finally:
            with acting_as(self.account):
                for suffix in ("", *SIDECAR_SUFFIXES):
                    Path(f"{copy}{suffix}").unlink(missing_ok=True)

    def _copy(self, source: Path, place: Path) -> None:
        read_from = open_regular(source)
        try:
            with acting_as(self.account):
                target = _new_file(str(place))
            try:
                with os_errors(place):
                    for offset in range(0, os.fstat(read_from).st_size, _CHUNK):
                        write_all(target, os.pread(read_from, _CHUNK, offset))
            finally:
                os.close(target)
        finally:
            os.close(read_from)


def _not_migrated(found: Found, error: TradekeepError) -> CaptureError:
    return CaptureError(
        f"cannot be migrated: {error.message}",
        path=found.absolute,
        hint="mend it, or migrate from a backup that is whole",
    )


def _signatures(database: Path) -> dict[str, Signature]:
    """Of a database, and of what belongs to it."""
    found = {}
    for suffix in ("", "-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            found[suffix] = signature_of(os.lstat(f"{database}{suffix}"))
    return found


def _rights_in(entry: Entry) -> dict[str, Any]:
    return {"mode": entry.mode, "owner": entry.owner, "group": entry.group, "mtime_ns": entry.mtime_ns}


def _is_gone(path: str) -> bool:
    """Whether nothing has that name; what cannot be looked at may be there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _copy(stream: BinaryIO, size: int, staged: Optional[int]) -> tuple[str, bytes]:
    """The digest of so many bytes, and the beginning of them; written to an open file, from its start, if given."""
    hasher, left, beginning = sha256(), size, b""
    if staged is not None:  # it may hold something of an attempt before
        os.ftruncate(staged, 0)
        os.lseek(staged, 0, os.SEEK_SET)
    while left:
        answer()
        data = stream.read(min(left, _CHUNK))
        if not data:
            raise ChangedWhileReadError(f"file ended {left} bytes early while it was read")
        hasher.update(data)
        beginning = beginning or data[:LARGEST]
        left -= len(data)
        if staged is not None:
            with os_errors():
                write_all(staged, data)
    return hasher.hexdigest(), beginning


def _copy_sparse(captured: Captured, staged: Optional[int]) -> str:
    """The same of a file with holes, which stay holes. No credential is so large."""
    extents, digest = captured.extents or (), DataDigest()

    def pieces() -> Iterator[bytes]:
        for offset, data in placed(extents, captured.pieces()):
            digest.add(offset, data)
            yield data

    if staged is None:
        for _piece in pieces():
            pass
    else:
        with os_errors():
            os.ftruncate(staged, 0)
            write_pieces(staged, captured.size, extents, pieces())
    return digest.hexdigest(captured.size)


def _new_file(staged: str) -> int:
    with os_errors(staged):
        os.makedirs(os.path.dirname(staged), mode=0o700, exist_ok=True)
        if os.path.lexists(staged):
            os.unlink(staged)  # of an attempt before
        return os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _header_in(root: Path) -> Optional[Header]:
    """What the manifest of an unpacked backup says, where there is one."""
    for place in (root, root.parent):
        path = place / MANIFEST_NAME
        if path.is_file() and not path.is_symlink():
            with os_errors(path), open(path, "rb") as stream:
                line = stream.readline(_LONGEST_FIRST_LINE).rstrip(b"\n")
            if line.startswith(b'{"tradekeep_manifest"'):
                return parse_first_line(line)
    return None


def left_in(application: Application, root: Path, seen: set[str]) -> Iterator[str]:
    """What no component has, by name; a whole directory once, with a slash at its end. seen: what a scan has found."""
    lookup = classifier(application.profile)
    above = {
        path[:end]
        for component in application.profile.components
        for path in places(str(root), component.paths)
        for end, character in enumerate(path)
        if character == "/"
    }
    yield from _left_in(lookup, root, "", above, seen)


def _left_in(lookup: Classifier, root: Path, directory: str, above: set[str], seen: set[str]) -> Iterator[str]:
    answer()
    try:
        with os.scandir(root / directory) as listing:
            found = sorted(listing, key=lambda item: item.name)
    except PermissionError:
        return  # nobody can say what is in there
    names = {item.name for item in found}
    for item in found:
        path = f"{directory}/{item.name}" if directory else item.name
        if path in seen and not item.is_dir(follow_symlinks=False):
            continue
        if item.name.startswith(OWN_PREFIX) or path == MANIFEST_NAME or is_sidecar(lookup, path, names):
            continue
        if not item.is_dir(follow_symlinks=False):
            yield path
        elif (path in seen or path in above or lookup.leads_on(path)) and not lies_too_deep(path):
            yield from _left_in(lookup, root, path, above, seen)
        else:
            yield f"{path}/"
