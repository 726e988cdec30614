# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""From the archive file to files on a disk: checksum, key, unpacking, and all of it against the manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Optional

from ...application import Application
from ...archive.container import ContainerReader, open_container
from ...archive.encryption import import_secret_key, is_encrypted, require_gpg, secret_keys_expired, temporary_home
from ...archive.extract import everything, extract_to
from ...archive.manifest import Entry
from ...archive.members import ReadReport
from ...archive.openpgp import HEAD
from ...archive.reported import EntriesOut, report_as, report_from, texts_from
from ...archive.safety import FILE, Limits
from ...archive.tar_reader import Readable, read_archive
from ...errors import ArchiveError, EncryptionError
from ...host.account import Account
from ...ports import Ports
from ...storage.backup import Backup
from ..apart import Telling, read_apart, unusable
from ..kind_of import SQLITE, database_beside, kind_of_entry
from ..layout import Layout, data_prefix
from ..leftovers import reader_account
from ..reading import ENTRIES, Counted, EntriesHeard, GatheringSink, checksum, compare_checksum
from .findings import Findings


@dataclass(frozen=True)
class Keys:
    """What opens the backup. home: a gpg home with the key given for the drill and nothing else."""

    home: Optional[str] = None
    passphrase_file: Optional[str] = None
    given: bool = False


@dataclass(frozen=True)
class Size:
    """What an archive holds, as far as its sidecar tells or one reading has shown."""

    bytes: int
    things: int
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Unpacked:
    """What lies in the scratch place. root: the directory that stands for the application's root."""

    root: str
    report: ReadReport
    entries: tuple[Entry, ...]
    skipped_links: frozenset[str]
    bytes: int

    @property
    def foreign(self) -> bool:
        """Whether the archive has no manifest."""
        return self.report.layout != "tradekeep"

    @property
    def whole(self) -> bool:
        """Whether all of the backup was restored."""
        return self.bytes >= self.report.bytes


def prove_checksum(backup: Backup, ports: Ports, findings: Findings) -> None:
    """Read the file as it lies there. Raises ArchiveError when it is not what its sidecar says."""
    if backup.problem is not None:
        findings.note(f"{backup.name}: {backup.problem}")
    if backup.sha256 is None:
        findings.note("no .sha256 beside it, so damage of the file as a whole could not be ruled out")
        return
    ports.progress.start("checksum", backup.size)
    compare_checksum(backup, checksum(backup.path, ports.progress))
    ports.progress.finish()


@contextmanager
def keys_for(
    backup: Backup, key_file: Optional[str], passphrase_file: Optional[str], ports: Ports, findings: Findings
) -> Iterator[Keys]:
    """The keys for one drill. Those of the host's own keyring are left out: a stranger would not have them."""
    if not _looks_encrypted(backup.path):
        if key_file is not None:
            findings.note(f"{key_file}: was not tried, as the backup is not encrypted")
        yield Keys()
        return
    require_gpg(ports.runner)
    with temporary_home(ports.runner) as home:
        if key_file is not None:
            import_secret_key(key_file, home, ports.runner)
            if os.stat(key_file).st_mode & 0o077:
                findings.note(f"{key_file}: the key can be read by others; chmod 600")
            if any(secret_keys_expired(home, ports.runner).values()):
                findings.note(f"{key_file}: the key is past its time: it still decrypts, but new backups fail")
        yield Keys(home, passphrase_file, key_file is not None)


def size_up(application: Application, backup: Backup, keys: Keys, ports: Ports) -> Size:
    """How much would be unpacked. Where no sidecar tells, or only a part may be, the archive is read for it once."""
    limit = application.profile.drill.maximum_bytes
    told, files = _count(backup.sidecar.get("bytes")), _count(backup.sidecar.get("files"))
    if told is not None and files is not None and (limit is None or told <= limit):
        return Size(told, files)
    heard = EntriesHeard()

    def read(telling: Telling, stream: Readable) -> dict[str, Any]:
        sink = GatheringSink(telling)
        read = read_archive(stream, sink)
        sink.entries.flush()
        return report_as(read)

    ports.progress.start("reading", backup.sidecar.get("bytes"))
    account = reader_account(application)
    said, _sha256 = read_apart(read, _opened(backup, keys, ports), backup.path, ports, account, heard=heard)
    ports.progress.finish()
    report = report_from(said)
    return Size(report.bytes, report.entries, tuple(heard.entries))


def choose_part(application: Application, size: Size, limit: Optional[int]) -> Callable[[str], bool]:
    """What is unpacked: everything, or as much as the limit allows, databases and critical components first."""
    if limit is None or size.bytes <= limit:
        return everything
    critical = {item.name for item in application.profile.components if item.critical}
    files = [entry for entry in size.entries if entry.type == FILE]
    # A WAL of an old archive goes with its database.
    files.sort(key=lambda entry: (not _is_database(application, entry), entry.component not in critical))
    chosen: set[str] = set()
    left = limit
    for entry in files:
        # What is another name of an earlier file is written after that one.
        first = entry.linked_to
        needed = entry.data_bytes * (1 if first is None or first in chosen else 2)
        if needed <= left:
            chosen.update((entry.path,) if first is None else (entry.path, first))
            left -= needed
    others = {entry.path for entry in size.entries if entry.type != FILE}
    return (chosen | others).__contains__


def unpack_into(
    application: Application,
    place: Path,
    backup: Backup,
    keys: Keys,
    size: Size,
    select: Callable[[str], bool],
    ports: Ports,
    account: Optional[Account] = None,
) -> Unpacked:
    """Restore into the scratch place in one reading, which also compares every entry with the manifest.

    account: whose place it is.
    """
    heard = EntriesHeard()

    def write(telling: Telling, stream: Readable) -> dict[str, Any]:
        entries = EntriesOut(lambda batch: telling.send(ENTRIES, batch))
        # The sidecar's word is not trusted with the disk: what is more than it says ends the drill.
        limits = Limits(total_bytes=size.bytes)
        written = extract_to(Counted(stream, telling), place, select=select, limits=limits, on_entry=entries.add)
        entries.flush()
        return {"read": report_as(written.read), "bytes": written.bytes, "skipped": list(written.skipped_links)}

    ports.progress.start("unpacking", size.bytes)
    said, sha256 = read_apart(write, _opened(backup, keys, ports), backup.path, ports, account, heard=heard)
    ports.progress.finish()
    compare_checksum(backup, sha256)
    return _unpacked(application, backup, place, said, heard.entries)


def _unpacked(application: Application, backup: Backup, place: Path, said: Any, entries: Sequence[Entry]) -> Unpacked:
    """What was written, as the process that wrote it says."""
    if not isinstance(said, dict) or (written := _count(said.get("bytes"))) is None:
        raise unusable("does not say what it wrote")
    report = report_from(said.get("read"))
    layout = Layout(report.stripped_prefix)
    if report.header is None:
        files = [entry.path for entry in entries if entry.type != "directory"]
        layout = Layout(data_prefix(application, files, archive=str(backup.path)))
        report = replace(report, stripped_prefix=layout.prefix)
    own = [entry._replace(path=path) for entry in entries if (path := layout.path(entry.path))]
    skipped = {path for item in texts_from(said.get("skipped")) if (path := layout.path(item))}
    root = f"{place}/{layout.prefix}" if layout.prefix else str(place)
    return Unpacked(root, report, tuple(own), frozenset(skipped), written)


def _count(value: object) -> Optional[int]:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _is_database(application: Application, entry: Entry) -> bool:
    base = database_beside(entry.path) or entry.path
    return kind_of_entry(application.profile, entry._replace(path=base)) == SQLITE


def _looks_encrypted(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return is_encrypted(file.read(HEAD))
    except OSError as error:
        raise ArchiveError(f"cannot be opened: {error.strerror}", path=path) from error


@contextmanager
def _opened(backup: Backup, keys: Keys, ports: Ports) -> Iterator[ContainerReader]:
    with ExitStack() as stack:
        try:
            yield stack.enter_context(
                open_container(
                    backup.path,
                    runner=ports.runner,
                    passphrase_file=keys.passphrase_file,
                    gnupg_home=keys.home,
                    packed=True,
                )
            )
        except EncryptionError as error:
            if not keys.given and error.message.startswith("no secret key"):
                hint = "give the key with --key, or name it as drill.key_file in the profile"
                raise EncryptionError("no key was given for this backup", path=backup.path, hint=hint) from error
            error.path = str(backup.path)
            raise
