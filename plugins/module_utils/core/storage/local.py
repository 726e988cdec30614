# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The backups of one application in a local directory. The directory listing is the truth.

Several applications may share it, each under a lock of its own, and those of several hosts: see ``belonging``.

Order of publishing: sidecars, then the archive's name, then ``latest_backup``. Order of removal: archive, then
sidecars. So an archive under its final name always has its sidecars, and whatever a crash leaves is a sidecar
without an archive or a ``.tradekeep-`` name; both are nobody's, and ``sweep_leftovers`` removes them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Optional

from ..application import Application
from ..errors import ArchiveError, TradekeepError, UnsafePathError, UsageError
from ..host.files import (
    failure_of,
    fsync_directory,
    make_private_directory,
    os_errors,
    remove_tree,
)
from ..host.filesystem.identity import with_privileges
from ..ports import Clock
from .backup import LARGEST_SIDECAR, Backup, is_archive_name, iso, parse_iso, read_backup
from .belonging import latest_stem, named_backups, refuse_of_another, sidecar_of
from .choice import latest_of, passed_over
from .maker import Maker, established, maker_of
from .names import (
    LATEST_STEM,
    ParsedName,
    archive_of_sidecar,
    backup_name,
    one_second_later,
    parse_any_name,
    parse_name,
    sidecars_of,
)
from .parts import is_leftover_part, part_name, sweep_scratch
from .placing import check_finished, fsync_file, give_name, point_link, set_mode, write_new
from .records import Records
from .vanished import all_gone

__all__ = ["Backup", "LocalCatalog"]

ATTEMPTS_AT_NAMES = 60
CANDIDATES_SHOWN = 5
MOST_PROBLEMS, LONGEST_PROBLEM = 20, 1000
"""What a record keeps of a verification; the catalog has to be read back."""


def _unheard(text: str) -> None:
    """For callers whose operation has said it already."""


class LocalCatalog:
    """The backups in one directory (the application's backup directory unless told otherwise).

    note: told what is worth a line, such as a damaged catalog file.
    """

    def __init__(
        self,
        application: Application,
        clock: Clock,
        *,
        directory: Optional[Path] = None,
        note: Callable[[str], None] = _unheard,
    ) -> None:
        self.application = application
        self.clock = clock
        self.directory = Path(application.backup_dir) if directory is None else Path(directory)
        self.records = Records(Path(application.application_state_dir), clock.now, note)
        self._note = note

    @property
    def prefix(self) -> str:
        """What the names of this application's archives begin with."""
        return self.application.profile.archive_prefix

    # Reading

    @property
    def maker(self) -> Maker:
        """Who makes backups here."""
        return maker_of(self.application)

    def list(self) -> tuple[Backup, ...]:
        """Every backup of this application, newest first; doubtful ones have a ``problem``. Writes nothing.

        Those that this installation has made; of others where there is none yet, and where a person says it: see
        ``Maker.visible``.
        """
        return _by_age(self.maker.visible(self._all(), self.application.backups_of))

    def own(self) -> tuple[Backup, ...]:
        """The same, of this installation alone: those that it may remove, and that its links lead to."""
        maker = self.maker
        return _by_age(item for item in self._all() if maker.owns(item))

    def others(self) -> Mapping[str, Sequence[Backup]]:
        """The backups of the same application by other installations, by the names of their hosts."""
        return self.maker.others(self._all())

    @with_privileges
    def _all(self) -> tuple[Backup, ...]:
        """Every backup in the directory, whoever has made it."""
        recorded = self.records.read()["backups"]
        found = []
        for name in named_backups(self._names()):
            record = recorded.get(self._key(self.directory / name))
            with contextlib.suppress(FileNotFoundError):
                found.append(read_backup(self.directory / name, self.prefix, record))
        return tuple(found)

    @with_privileges
    def find(self, reference: str) -> Backup:
        """The backup that ``latest``, a file name, the name it was given, or a path stands for."""
        if reference == "latest":
            return self._latest()
        if "/" in reference:
            return self._at(Path(reference))
        backups = self.list()
        for name_of in (_file_name, _stem, _label):
            # A file name is never ambiguous, even where somebody gave a backup that very name.
            matches = [item for item in backups if name_of(item) == reference]
            if matches:
                return _only(matches, reference)
        refuse_of_another(self.directory / reference, self.maker)
        raise UsageError("no such backup", path=reference, hint="run 'tradekeep list' to see what there is")

    @with_privileges
    def unproven(self) -> tuple[Backup, ...]:
        """Good backups whose last verification lies before the moment at which the results of all were lost."""
        content = self.records.read()
        lost = parse_iso(content.get("lost"))
        if lost is None:
            return ()
        # Whatever is on record was found after the loss, even if a clock was wrong that day.
        known = {key for key, entry in content["backups"].items() if "ok" in entry}
        return tuple(
            item
            for item in self.list()
            if item.good and item.verified_at and self._key(item.path) not in known and item.verified_at < lost
        )

    @with_privileges
    def gone(self) -> Optional[TradekeepError]:
        """What is to be said where every backup on record is gone at once; None where all is well, or none was made."""
        if self.directory != Path(self.application.backup_dir):
            return None
        return all_gone(self.directory, self.records.read()["backups"], self._names())

    def require_present(self) -> None:
        """Raises where every backup on record is gone at once: nobody is to act as if there had been none."""
        gone = self.gone()
        if gone is not None:
            raise gone

    # Writing; the caller holds the application's lock

    def temporary(self, final_name: str) -> Path:
        """Where to write an archive before it has its name: unique, in the same directory, swept when we die."""
        return self.directory / part_name(final_name, established(self.application))

    @with_privileges
    def publish(self, temporary: Path, final_name: str, sidecar: Mapping[str, Any]) -> Backup:
        """Give a verified archive its name, and return it; never replaces anything.

        Where the name is taken, the next free second is used. The sidecar must hold ``sha256``, ``size`` and
        ``verified``. ``settle`` comes next.
        """
        parsed = parse_name(self.prefix, final_name)
        if parsed is None:
            raise UsageError(f"not the name of a backup beginning with {self.prefix}_", path=final_name)
        self.check_directory()
        check_finished(temporary, sidecar)
        with os_errors():
            set_mode(temporary, 0o600)
            fsync_file(temporary)
            published = self._publish_under_free_name(temporary, parsed, sidecar)
        with contextlib.suppress(TradekeepError):
            # A record of an earlier archive of this name says nothing about this one.
            self.records.forget(self._key(published))
        with contextlib.suppress(TradekeepError):
            self.refresh_latest()
        return self._at(published)

    @with_privileges
    def settle(self, backup: Backup, level: str, when: datetime) -> tuple[str, ...]:
        """After publishing: record the verification, see to ``latest_backup``. Returns what could not be done.

        The backup is whole without it: its sidecar tells the verification too, and the next run moves the link.
        """
        unfinished: list[str] = []
        with _noted(unfinished):
            self._record(backup, level, when, True, ())
        with _noted(unfinished):
            self.refresh_latest()
        return tuple(unfinished)

    @with_privileges
    def record_verified(
        self, backup: Backup, level: str, when: datetime, ok: bool, problems: Sequence[str] = ()
    ) -> None:
        """Remember the result of a verification; when it failed, ``latest_backup`` moves to the newest good one."""
        self._record(backup, level, when, ok, problems)
        with contextlib.suppress(TradekeepError):
            # The backup directory may be read-only for us: the record counts.
            self.refresh_latest()

    def _record(self, backup: Backup, level: str, when: datetime, ok: bool, problems: Sequence[str]) -> None:
        self.records.update(
            self._key(backup.path),
            sha256=backup.sha256,
            verified_at=iso(when),
            level=level,
            ok=ok,
            problems=[text[:LONGEST_PROBLEM] for text in problems[:MOST_PROBLEMS]],
        )

    @with_privileges
    def record_drilled(self, backup: Backup, source: str, when: datetime, verdict: str) -> None:
        """Remember when a backup was last restored for practice, from where, and what came of it."""
        drill = {"sha256": backup.sha256, "at": iso(when), "source": source, "verdict": verdict}
        self.records.update(self._key(backup.path), drill=drill)

    @with_privileges
    def release(self, backup: Backup) -> None:
        """Let retention decide about a named backup from now on."""
        self.records.update(self._key(backup.path), released=True)

    @with_privileges
    def remove(self, backup: Backup) -> None:
        """Delete an archive and its sidecars; the archive first, so that half of one cannot pass for a backup."""
        with os_errors():
            for name in (backup.name, *sidecars_of(backup.name)):
                with contextlib.suppress(FileNotFoundError):
                    (backup.path.parent / name).unlink()
                if name == backup.name:
                    fsync_directory(backup.path.parent)
        self.records.forget(self._key(backup.path))

    @with_privileges
    def refresh_latest(self) -> None:
        """Point this application's link to the latest backup, and remove its links of other suffixes."""
        newest = latest_of(self.own(), self.clock.now())
        parsed = None if newest is None else parse_any_name(newest.name)
        with os_errors(self.directory):
            names = self._names()
            stem = latest_stem(self.directory, names, self.maker)
            wanted = None if parsed is None else f"{stem}{parsed.suffix}"
            has_links = newest is None or wanted is None or point_link(self.directory / wanted, newest.name)
            if not has_links:
                self._note_without_links()
                return
            for name in names:
                if name != wanted and name.startswith(f"{stem}.tar.") and (self.directory / name).is_symlink():
                    (self.directory / name).unlink(missing_ok=True)

    def _note_without_links(self) -> None:
        """Once for a directory: nothing is wrong with the backups there."""
        if self.records.read().get("without_links") != str(self.directory):
            self._note(f"{self.directory} is on a filesystem without symlinks: there will be no {LATEST_STEM} in it")
            with contextlib.suppress(TradekeepError):
                self.records.set(without_links=str(self.directory))

    @with_privileges
    def sweep_leftovers(self) -> tuple[str, ...]:
        """Remove what killed processes left; returns the names. Only while holding the application's lock."""
        self.check_directory()
        maker = established(self.application)
        removed = list(sweep_scratch(self.directory, maker))
        names = self._names()
        present = set(names)
        for name in names:
            if self._is_leftover(name, present, maker):
                path = self.directory / name
                with os_errors(path):
                    if stat.S_ISDIR(path.lstat().st_mode):
                        remove_tree(path)
                    else:
                        path.unlink(missing_ok=True)
                removed.append(name)
        self.refresh_latest()
        return tuple(removed)

    @with_privileges
    def check_directory(self) -> None:
        """Create the directory (0700) or make sure that nobody else can plant or replace files in it."""
        path = self.directory
        with os_errors(path), contextlib.suppress(FileNotFoundError):
            link = path.lstat()
            if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid()):
                raise UnsafePathError("is a symlink of another user", path=path, hint="put a real directory there")
        if not path.exists():
            make_private_directory(path)
        with os_errors(path):
            status = path.stat()
            if not stat.S_ISDIR(status.st_mode):
                raise UnsafePathError("is not a directory", path=path, hint="choose another backup directory")
            if status.st_mode & stat.S_IWOTH:
                raise UnsafePathError("everybody can write there", path=path, hint="chmod 0700, or choose another")
            ours = path == Path(self.application.backup_dir) and status.st_uid == os.geteuid()
            if ours and stat.S_IMODE(status.st_mode) != 0o700:
                set_mode(path, 0o700)

    # Inner parts

    def _names(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(os.listdir(self.directory)))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise failure_of(error, self.directory) from error

    def _key(self, path: Path) -> str:
        return path.name if path.parent == Path(self.application.backup_dir) else str(path)

    def _at(self, path: Path) -> Backup:
        path = path.parent.resolve() / path.name if not path.is_absolute() else path
        if path.name.startswith(LATEST_STEM) and path.is_symlink():
            path = path.resolve()
        with os_errors(path):
            try:
                return read_backup(path, self.prefix, self.records.entry(self._key(path)))
            except FileNotFoundError:
                raise UsageError("no such file", path=path, hint="run 'tradekeep list' to see what there is") from None

    def _latest(self) -> Backup:
        backups = self.list()
        now = self.clock.now()
        newest = latest_of(backups, now)
        said = passed_over(backups, now)
        if said is not None:
            self._note(said)
        if newest is None:
            self.require_present()
            self._refuse_others()
            because = f"none of {len(backups)} is verified" if backups else "there is none yet"
            raise TradekeepError(f"no backup to rely on: {because}", path=self.directory, hint="run 'tradekeep backup'")
        return newest

    def _refuse_others(self) -> None:
        for host, backups in sorted(self.others().items()):
            if self.application.backups_of is None and any(item.good for item in backups):
                raise UsageError(
                    f"this installation has made no backup yet; those that are here were made on {host}",
                    path=self.directory,
                    hint=f"to take them: --host {shlex.quote(host)}",
                )

    def _publish_under_free_name(self, temporary: Path, parsed: ParsedName, sidecar: Mapping[str, Any]) -> Path:
        for _attempt in range(ATTEMPTS_AT_NAMES):
            if not self._taken(parsed):
                with contextlib.suppress(FileExistsError):
                    return self._publish_as(temporary, parsed.filename, sidecar)
            parsed = one_second_later(self.prefix, parsed)
        raise ArchiveError("no free name in a whole minute", path=parsed.filename, hint="try again later")

    def _taken(self, parsed: ParsedName) -> bool:
        """Whether any archive or sidecar has this moment: two of one second would have no order."""
        moment = backup_name(self.prefix, parsed.moment).partition(".tar.")[0]
        return any(name.startswith((f"{moment}.", f"{moment}_")) for name in self._names())

    def _publish_as(self, temporary: Path, filename: str, sidecar: Mapping[str, Any]) -> Path:
        """Write both sidecars, then give the name; raises FileExistsError where another application was faster.

        The ``.json`` comes first and never replaces one: it says whose name this is from then on.
        """
        checksum, facts = (self.directory / name for name in sidecars_of(filename))
        text = (json.dumps(dict(sidecar), indent=1, sort_keys=True) + "\n").encode()
        if len(text) > LARGEST_SIDECAR:
            raise ArchiveError(
                f"its facts come to {len(text)} bytes, more than would be read back",
                path=facts,
                hint="exclude what has so many names in the profile",
            )
        written: list[Path] = []
        named = False
        try:
            write_new(facts, text, self.temporary(facts.name))
            written.append(facts)
            write_new(checksum, f"{sidecar['sha256']}  {filename}\n".encode(), self.temporary(checksum.name))
            written.append(checksum)
            named = True
            return give_name(temporary, self.directory / filename)
        except BaseException as error:
            # Of an archive that has its name the sidecars stay, unless it is somebody else's.
            if not named or isinstance(error, FileExistsError) or not os.path.lexists(self.directory / filename):
                for path in written:
                    path.unlink(missing_ok=True)
            raise

    def _is_leftover(self, name: str, present: set[str], maker: Maker) -> bool:
        archive = archive_of_sidecar(name)
        if archive is not None:
            return archive not in present and self._is_our_name(archive, maker)
        return is_leftover_part(self.directory / name, maker)

    def _is_our_name(self, archive: str, maker: Maker) -> bool:
        """Another application, or host, may be about to give that name: it writes the sidecars before."""
        return parse_any_name(archive) is not None and maker.owns_name(archive, sidecar_of(self.directory / archive))


@contextlib.contextmanager
def _noted(unfinished: list[str]) -> Iterator[None]:
    try:
        yield
    except TradekeepError as error:
        unfinished.append(f"the backup is made, but: {error}")


def _by_age(backups: Iterable[Backup]) -> tuple[Backup, ...]:
    return tuple(sorted(backups, key=lambda item: (item.moment, item.name), reverse=True))


def _file_name(backup: Backup) -> str:
    return backup.name


def _stem(backup: Backup) -> str:
    return backup.name[: backup.name.index(".tar.", len(backup.name) - 12)] if is_archive_name(backup.name) else ""


def _label(backup: Backup) -> Optional[str]:
    return backup.label


def _only(matches: Sequence[Backup], reference: str) -> Backup:
    """The one that is meant. Which of several cannot be guessed: the newest is not the one that was looked at."""
    if len(matches) == 1:
        return matches[0]
    shown = ", ".join(item.name for item in matches[:CANDIDATES_SHOWN])
    more = f" and {len(matches) - CANDIDATES_SHOWN} older" if len(matches) > CANDIDATES_SHOWN else ""
    raise UsageError(f"stands for {len(matches)} backups: {shown}{more}", path=reference, hint="say which of them")
