# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""An archive as the source of a migration; one of the old scripts is unpacked first, and read as a directory."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ...application import Application
from ...archive.container import open_container
from ...archive.extract import extract_to
from ...archive.manifest import Entry
from ...archive.members import Member, ReadReport
from ...archive.reported import FindingsIn, finding_as, texts_from
from ...archive.tar_reader import Readable
from ...errors import SpaceError, TradekeepError, UsageError
from ...host.account import Account, owner_of
from ...host.files import failure_of, open_file_beneath, os_errors, space, write_all
from ...host.filesystem.identity import privileged, with_privileges
from ...host.filesystem.scratch import scratch_directory, shared_place
from ...host.worker import worker_account
from ...patterns import classifier
from ...ports import Ports
from ...storage.local import Backup, LocalCatalog
from ...storage.names import sidecars_of
from ...transaction.stage import Stage
from ..apart import Telling, read_apart
from ..keys import home_for
from ..provenance import note_other_maker
from ..reading import (
    Contents,
    Counted,
    EntriesHeard,
    GatheringSink,
    passphrase_for,
    read_contents,
    unpack,
)
from ..restore_plan import Item
from ..text import human_bytes
from .credentials import LARGEST, credential_problem
from .origin import Held, Origin, Refused, SourceFacts, nothing_of_profile, refusal_of, refuse_other_profile
from .origin_directory import Apart, DirectoryOrigin, find_root, refuse_directory
from .source_rights import SourceRights, rights_to_read

_CHUNK = 1 << 20
_CREDENTIAL = b"c"
"""The frames that findings on credentials are sent in."""


@contextlib.contextmanager
def open_origin(
    application: Application,
    ports: Ports,
    source: str,
    *,
    passphrase_file: Optional[str] = None,
    key_file: Optional[str] = None,
) -> Iterator[Origin]:
    """Read a source once. What is unpacked or copied for that is gone when the block ends.

    Raises UsageError and its like for what cannot be a source, ArchiveError for a damaged, hostile or newer archive.
    """
    given = Path(os.path.abspath(source))
    rights = rights_to_read(application, given)
    with rights.acting():
        is_archive = _is_archive(given)
    if not is_archive:
        with rights.acting():
            refuse_directory(application, given)
            root = find_root(application, given)
            refuse_directory(application, root)
        facts = SourceFacts(str(given), "directory", str(root), weaker_checks=True)
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(_scratch(application, rights.account))
            apart = stack.enter_context(_apart(application, rights))
            yield DirectoryOrigin(application, ports, root, scratch, facts, rights, apart=apart)
        return
    secret = passphrase_for(application, passphrase_file)
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(_scratch(application, worker_account(owner_of(application))))
        place = given if rights.account is None else stack.enter_context(_copied(application, given, rights))
        with privileged():
            opened = home_for(application, place, key_file, ports)
        home = stack.enter_context(_in_our_name(opened))
        yield _open_archive(application, ports, given, place, scratch, Secrets(secret, home))


@contextlib.contextmanager
def _apart(application: Application, rights: SourceRights) -> Iterator[Optional[Apart]]:
    """Where the owner looks at databases that root alone can read; None where they are the reader's own."""
    owner = worker_account(owner_of(application))
    if rights.account is not None or owner is None:
        yield None
        return
    with _scratch(application, owner) as scratch:
        yield Apart(owner, scratch)


def _is_archive(given: Path) -> bool:
    try:
        return stat.S_ISREG(given.lstat().st_mode)
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            hint = "name a directory or an archive on this host"
            raise UsageError("there is no such source", path=given, hint=hint) from error
        raise failure_of(error, given) from error


@contextlib.contextmanager
def _in_our_name(context: contextlib.AbstractContextManager[Optional[str]]) -> Iterator[Optional[str]]:
    stack = contextlib.ExitStack()
    with privileged():
        value = stack.enter_context(context)
    try:
        yield value
    finally:
        with privileged():
            stack.close()


@contextlib.contextmanager
def _copied(application: Application, given: Path, rights: SourceRights) -> Iterator[Path]:
    """A copy that nobody can exchange, of an archive that somebody can; read with that account's rights."""
    with scratch_directory(_our_place(application), "source") as private:
        for name in (given.name, *sidecars_of(given.name)):
            _copy(given.with_name(name), private / name, rights, needed=name == given.name)
        yield private / given.name


def _copy(source: Path, place: Path, rights: SourceRights, *, needed: bool) -> None:
    try:
        with rights.acting():
            read_from = open_file_beneath(source.parent, source.name)
    except (FileNotFoundError, TradekeepError):
        if needed:
            raise
        return
    try:
        with privileged(), os_errors(place), open(place, "xb", buffering=0) as target:
            size = os.fstat(read_from).st_size
            if size + (1 << 20) > space(place.parent).bytes_free:
                raise SpaceError(f"{human_bytes(size)} needed to copy it", path=place.parent, hint="free some space")
            for offset in range(0, size, _CHUNK):
                write_all(target.fileno(), os.pread(read_from, min(_CHUNK, size - offset), offset))
    finally:
        os.close(read_from)


@dataclass(frozen=True)
class Secrets:
    """What opens an archive. home: a gpg home with the key that was given; None for the account's own."""

    passphrase_file: Optional[str] = None
    home: Optional[str] = None


def _open_archive(
    application: Application, ports: Ports, given: Path, place: Path, scratch: Path, secrets: Secrets
) -> Origin:
    """given: as it is called. place: where it is read."""
    with privileged():
        backup = LocalCatalog(application, ports.clock).find(str(place))
    heard = _Heard()
    contents = read_contents(
        backup,
        ports,
        secrets.passphrase_file,
        account=worker_account(owner_of(application)),
        gnupg_home=secrets.home,
        gathering=lambda telling: _Sink(application, telling),
        heard=heard,
    )
    if contents.report.header is None:
        return _open_foreign(application, ports, given, backup, contents.report, scratch, secrets)
    refuse_other_profile(application, contents.report.header, given)
    note_other_maker(application, backup, contents.report.header, ports.progress.note)
    return ArchiveOrigin(application, ports, given, backup, contents, heard.credentials, secrets)


class _Sink(GatheringSink):
    """Sends the entries of an archive, and what is wrong with its credentials."""

    def __init__(self, application: Application, telling: Telling) -> None:
        super().__init__(telling)
        self._send = telling.send
        self._lookup = classifier(application.profile, looking=False)

    def on_file(self, member: Member, chunks: Iterator[bytes]) -> None:
        """Look at small secrets; everything else is only counted."""
        super().on_file(member, chunks)
        classified = self._lookup.file(member.path)
        if classified is not None and classified.secret and member.size <= LARGEST:
            self._send(_CREDENTIAL, finding_as(member.path, credential_problem(member.path, b"".join(chunks))))


class _Heard(EntriesHeard):
    """Takes what a ``_Sink`` sends."""

    def __init__(self) -> None:
        super().__init__()
        self._credentials = FindingsIn()

    def __call__(self, kind: bytes, payload: bytes) -> None:
        """One frame."""
        if kind == _CREDENTIAL:
            self._credentials.hear(payload)
        else:
            super().__call__(kind, payload)

    @property
    def credentials(self) -> dict[str, Optional[str]]:
        """What is wrong with each, or None."""
        return self._credentials.findings


class ArchiveOrigin:
    """An archive with a manifest, read to its end."""

    def __init__(
        self,
        application: Application,
        ports: Ports,
        given: Path,
        backup: Backup,
        contents: Contents,
        credentials: dict[str, Optional[str]],
        secrets: Secrets,
    ) -> None:
        self._ports = ports
        self._backup = backup
        self._secrets = secrets
        self._contents = contents
        self.facts = _facts(given, backup, contents.report)
        self.held = _sorted_out(application, contents.entries, credentials)
        if not self.held.entries:
            raise nothing_of_profile(application, given)

    def fill(self, stage: Stage, changes: Sequence[Item]) -> list[Item]:
        """See Origin. One pass for each filesystem that something lies on: nearly always one."""
        wanted = {item.path: stage.path_for(item.path) for item in changes if item.entry is not None}
        for directory in stage.directories:
            here = {path for path, staged in wanted.items() if staged.startswith(f"{directory}/")}
            if here:
                place = f"{directory}/new"
                unpack(
                    self._backup,
                    self._contents,
                    place,
                    here.__contains__,
                    self._ports,
                    self._secrets.passphrase_file,
                    self._secrets.home,
                )
        return list(changes)


def _facts(given: Path, backup: Backup, report: ReadReport) -> SourceFacts:
    header = report.header
    return SourceFacts(
        str(given),
        "archive",
        report.stripped_prefix,
        weaker_checks=header is None,
        encrypted=backup.encrypted,
        host=header.host if header else "",
        profile=header.profile if header else "",
        created=header.created if header else "",
        tool=header.tool if header else "",
        format=header.format if header else None,
    )


def _sorted_out(application: Application, found: Sequence[Entry], credentials: dict[str, Optional[str]]) -> Held:
    lookup = classifier(application.profile)
    entries: list[Entry] = []
    refused: list[Refused] = []
    left: list[str] = []
    for entry in found:
        known = lookup.directory(entry.path) if entry.type == "directory" else lookup.file(entry.path)
        why = refusal_of(entry.path, entry.type, entry.mode, entry.target)
        if known is None:
            left.append(entry.path)
        elif why is not None:
            refused.append(Refused(entry.path, why))
        else:
            entries.append(entry._replace(mode=known.mode))
    return Held(tuple(entries), tuple(refused), tuple(left), credentials)


def _open_foreign(
    application: Application,
    ports: Ports,
    given: Path,
    backup: Backup,
    report: ReadReport,
    scratch: Path,
    secrets: Secrets,
) -> Origin:
    """Without a manifest nobody knows what belongs to a ``-wal``: unpacked, each file is captured by its kind."""
    free = space(scratch).bytes_free
    if report.bytes + (1 << 20) > free:
        raise SpaceError(
            f"{human_bytes(report.bytes)} needed to unpack it, {human_bytes(free)} free",
            path=scratch.parent,
            hint="free some space",
        )
    unpacked = scratch / "unpacked"
    unpacked.mkdir(mode=0o700)
    rights = SourceRights(worker_account(owner_of(application)))

    def dated(entry: Entry) -> None:
        if entry.type == "file":
            os.utime(unpacked / entry.path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)

    def write(telling: Telling, stream: Readable) -> list[str]:
        return list(extract_to(Counted(stream, telling), unpacked, on_entry=dated).skipped_links)

    opened = open_container(
        backup.path, runner=ports.runner, passphrase_file=secrets.passphrase_file, gnupg_home=secrets.home, packed=True
    )
    ports.progress.start("unpacking", report.bytes)
    skipped, _sha256 = read_apart(write, opened, backup.path, ports, rights.account)
    ports.progress.finish()
    prefix = f"{report.stripped_prefix}/" if report.stripped_prefix else ""
    left_out = [
        Refused(path[len(prefix) :] if path.startswith(prefix) else path, "a symlink that leads out of the data")
        for path in texts_from(skipped)
    ]
    try:
        root = find_root(application, unpacked / report.stripped_prefix)
    except UsageError as error:
        raise UsageError(error.message, path=given, hint=error.hint) from error
    try:
        return DirectoryOrigin(application, ports, root, scratch, _facts(given, backup, report), rights, left_out)
    except TradekeepError as error:
        if error.path is not None:
            error.path = error.path.replace(f"{root}/", "")
        raise


def _scratch(application: Application, account: Optional[Account]) -> contextlib.AbstractContextManager[Path]:
    """A private directory that is gone afterwards, also after a kill: the next run sweeps it."""
    if account is None:
        return scratch_directory(_our_place(application), "compare")
    return scratch_directory(shared_place(application.application_state_dir, account), "compare", account=account)


@with_privileges
def _our_place(application: Application) -> str:
    state_dir = str(application.application_state_dir)
    usable = os.path.isdir(state_dir) and os.access(state_dir, os.W_OK)
    return state_dir if usable else tempfile.gettempdir()
