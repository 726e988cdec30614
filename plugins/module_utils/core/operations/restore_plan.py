# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a restore would change, file by file: the backup's entries against the live tree. Read-only."""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

from ..application import Application
from ..archive.holes import digest_of_sparse
from ..archive.manifest import Entry
from ..errors import TradekeepError, UnsafePathError, UsageError
from ..kinds.sqlite import SIDECAR_SUFFIXES
from ..patterns import classifier, classify, classify_directory, matches
from ..signals import answer
from .kind_of import SQLITE, database_beside, kind_of_entry, tied
from .links import LiveLinks, behind, is_left_out
from .rights_plan import granted_rights
from .scan import Found, scan
from .text import first_few

CHUNK = 1 << 20
_ENTRIES_NAMED = 10

DatabaseDigest = Callable[[str], Optional[str]]
"""Digest of a capture of a live database (equal for equal content), or None when it cannot be captured."""


@dataclass(frozen=True)
class Item:
    """One path of a restore. action: same, new, replace, or remove."""

    path: str
    action: str
    before: Optional[dict[str, Any]]
    after: Optional[dict[str, Any]]
    entry: Optional[Entry] = None
    identity: Optional[tuple[int, ...]] = None
    """Inode, size and times of what lay there when it was compared."""

    def describe(self) -> str:
        """One line for people."""
        sign = {"new": "+", "replace": "~", "remove": "-", "same": "="}[self.action]
        arrow = " -> " if self.before and self.after else ""
        return f"{sign} {self.path}  {_facts_line(self.before)}{arrow}{_facts_line(self.after)}"


@dataclass(frozen=True)
class Selection:
    """Which part of a backup is wanted; empty means everything that a component of the profile has.

    unmanaged: also what no component has, such as code in an archive of another program, or what was excluded since.
    strip: the leading directories of such an archive that are left out; None has the profile decide.
    """

    components: frozenset[str] = frozenset()
    globs: tuple[str, ...] = ()
    unmanaged: bool = False
    strip: Optional[str] = None
    into: Optional[str] = None

    @property
    def whole(self) -> bool:
        """Whether everything is wanted."""
        return not self.components and not self.globs

    def chooser(self, application: Application) -> Callable[[str], bool]:
        """A function that tells whether a path (of a file) is wanted."""

        def chosen(path: str) -> bool:
            classified = classify(application.profile, path) or classify_directory(application.profile, path)
            if classified is None and not self.unmanaged:
                return False
            if self.whole:
                return True
            # What is restored with another WAL than its own, or with none, is something that never was.
            named = [path, *filter(None, [database_beside(path)])]
            if any(_covers(pattern, item) for pattern in self.globs for item in named):
                return True
            return classified is not None and classified.component.name in self.components

        return chosen


def check_selection(application: Application, components: Sequence[str], paths: Sequence[str]) -> Selection:
    """The selection, or UsageError for a component that the profile does not have."""
    known = sorted(component.name for component in application.profile.components)
    for name in components:
        if name not in known:
            raise UsageError("no such component", path=name, hint=f"one of {', '.join(known)}")
    for pattern in paths:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            raise UsageError("a path to restore is relative to the root", path=pattern, hint="leave out the root")
    return Selection(frozenset(components), tuple(pattern.rstrip("/") for pattern in paths))


def nothing_chosen(backup: str, entries: Sequence[Entry]) -> UsageError:
    """The error for a choice that a backup has nothing of."""
    some = first_few([entry.path for entry in entries], _ENTRIES_NAMED)
    return UsageError("the backup holds nothing of what was chosen", path=backup, hint=f"it holds: {some}")


def plan_items(
    application: Application,
    entries: Iterable[Entry],
    selection: Selection,
    *,
    digest_of_database: DatabaseDigest,
    known: Optional[Mapping[str, Item]] = None,
) -> list[Item]:
    """Compare the wanted entries with the live tree, in the order of their paths.

    known: results of an earlier comparison, taken over for all but removals, so that no content is read again.

    Live files of a component that the backup does not have are removed (a mixture of two moments is neither),
    but only where the backup covers that component at all. What is no data here, although it was where the backup was
    made, stays as it is (see ``kept_out``), and so does what lies in the place of a link that is left out.
    """
    chosen, links = selection.chooser(application), LiveLinks(application)
    wanted, not_asked = _parted(entries, chosen)
    left_out = {entry.path for entry in wanted if is_left_out(entry)}

    def compared(entry: Entry) -> Item:
        seen = known.get(entry.path) if known else None
        return seen or compare(application, entry, digest_of_database, links)

    items = [compared(entry) for entry in wanted if entry.path not in left_out and _is_put_back(application, entry)]
    held = {entry.path for entry in wanted}
    gone = [
        found.path
        for found in _live(application, _components_of(application, held))
        if found.path not in held and chosen(found.path) and not lies_in(found.path, left_out)
    ]
    items, going = _without_links(application, items, gone, links)
    _refuse_part_of_a_link(application, selection, not_asked, [path for path in going if links.is_link(path)])
    removed = {path: _removal(application, path) for path in going}
    for item in items:
        if item.action == "replace" and item.before is not None and item.before["type"] == "directory":
            # Whatever lies in it has to go, also what no component has; the safety backup keeps it.
            removed.update((path, _removal(application, path)) for path in _beneath(application, item.path))
    return with_tied(sorted([*items, *removed.values()], key=lambda item: item.path))


def _parted(entries: Iterable[Entry], chosen: Callable[[str], bool]) -> tuple[list[Entry], list[str]]:
    """What is wanted, and the paths of the rest."""
    wanted, rest = [], []
    for entry in entries:
        if chosen(entry.path):
            wanted.append(entry)
        else:
            rest.append(entry.path)
    return wanted, rest


def _is_put_back(application: Application, entry: Entry) -> bool:
    return entry.type != "directory" and not classifier(application.profile).keeps_out(entry.path)


def _components_of(application: Application, paths: Iterable[str]) -> frozenset[str]:
    """The components that have files or directories of these paths."""
    lookup = classifier(application.profile)
    classified = (lookup.file(path) or lookup.directory(path) for path in paths)
    return frozenset(item.component.name for item in classified if item is not None)


def _without_links(
    application: Application, items: Sequence[Item], gone: Sequence[str], links: LiveLinks
) -> tuple[list[Item], list[str]]:
    """The items, all of them new where a link above them makes way; and the paths that go.

    Nothing is written through a link. One that the profile follows stays while all is the same behind it. gone: what
    the backup does not have; where that lies behind a link, the link alone goes. So does what lies in the place of a
    directory that is needed.
    """
    waits = [*gone, *(item.path for item in items if item.action != "same")]
    differing = {link for path in waits if (link := links.above(path)) is not None}
    for link in sorted(differing):
        if not links.is_data(link):
            first = next(item.path for item in items if links.above(item.path) == link)
            raise behind(application, first, link)
    items = [
        replace(item, action="new", before=None, identity=None) if links.above(item.path) in differing else item
        for item in items
    ]
    root = str(application.root)
    above = {path for item in items if item.action != "same" for path in levels_above(item.path)}
    files = {path for path in above if os.path.lexists(f"{root}/{path}") and not os.path.isdir(f"{root}/{path}")}
    return items, sorted({path for path in (*files, *gone) if links.above(path) is None} | differing)


def _refuse_part_of_a_link(
    application: Application, selection: Selection, not_asked: Sequence[str], going: Collection[str]
) -> None:
    """A link does not make way for a part of what the backup has in its place: the rest would be out of sight."""
    if selection.whole or not going:
        return
    asked = replace(selection, components=frozenset(), globs=()).chooser(application)
    for path in not_asked:
        link = next((above for above in levels_above(path) if above in going), None)
        if link is not None and asked(path):
            raise UnsafePathError(
                "is a symlink, and only a part of what the backup has in its place was chosen",
                path=os.path.join(str(application.root), link),
                hint=f"choose all of it with --path {shlex.quote(link)}, or restore to another directory with --to",
            )


def levels_above(path: str) -> Iterator[str]:
    """The directories above a path, the nearest first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def lies_in(path: str, places: Collection[str]) -> bool:
    """Whether a path is one of some places, or lies below one of them."""
    return bool(places) and (path in places or any(above in places for above in levels_above(path)))


def _removal(application: Application, path: str) -> Item:
    """Raises TradekeepError for a file that no backup could keep."""
    live = os.path.join(str(application.root), path)
    status = os.lstat(live)
    if stat.S_ISREG(status.st_mode):
        os.close(_open_live(live))
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    before = {"type": _type(status.st_mode), "size": size, "mode": f"{stat.S_IMODE(status.st_mode):04o}"}
    if stat.S_ISLNK(status.st_mode):
        before["target"] = os.readlink(live)
    return Item(path, "remove", before, None)


def _beneath(application: Application, directory: str) -> Iterator[str]:
    """Everything below a live directory, directories as well."""
    root = str(application.root)
    for place, directories, names in os.walk(os.path.join(root, directory)):
        answer()
        for name in (*directories, *names):
            yield os.path.relpath(os.path.join(place, name), root)


def with_tied(items: Sequence[Item]) -> list[Item]:
    """The same items; what is worth something together alone is put in place, and kept aside, together.

    Else a database that is taken as bytes lies beside a WAL of another moment, and a bot may write to the one while the
    other is kept.
    """
    together = tied([item.path for item in items])
    changed = {_first_of(item.path, together) for item in items if item.path in together and item.action != "same"}
    return [
        replace(item, action="replace")
        if item.action == "same" and item.path in together and _first_of(item.path, together) in changed
        else item
        for item in items
    ]


def _first_of(path: str, together: Collection[str]) -> str:
    """The file that a WAL or journal lies beside; the path itself for any other."""
    base = database_beside(path)
    return base if base is not None and base in together else path


def unmanaged(application: Application, entries: Iterable[Entry], selection: Selection) -> list[str]:
    """The files that are asked for and that no component of the profile has: they are left alone.

    What is code, a cache or ours here is none of them: not even ``unmanaged`` takes it (see ``kept_out``).
    """
    chosen, not_data = selection.chooser(application), classifier(application.profile)
    wanted = _asked_for(application, entries, selection)
    return sorted(path for path in wanted if not chosen(path) and not not_data.keeps_out(path))


def kept_out(application: Application, entries: Iterable[Entry], selection: Selection) -> list[str]:
    """The files that are asked for and are code, caches or ours here, where a component has the whole root."""
    not_data = classifier(application.profile)
    return sorted(path for path in _asked_for(application, entries, selection) if not_data.keeps_out(path))


def _asked_for(application: Application, entries: Iterable[Entry], selection: Selection) -> Iterator[str]:
    """The files that are named, whether or not a component has them."""
    named = replace(selection, unmanaged=True).chooser(application)
    return (entry.path for entry in entries if entry.type != "directory" and named(entry.path))


def _live(application: Application, components: frozenset[str]) -> Iterable[Found]:
    if not os.path.isdir(str(application.root)):
        return ()
    found = scan(application, components=components, refuse_links=False)
    return (item for item in found if item.type in ("file", "symlink"))


def compare(
    application: Application,
    entry: Entry,
    digest_of_database: DatabaseDigest,
    links: Optional[LiveLinks] = None,
) -> Item:
    """One entry against what lies at its place; a live database by a capture of it, as its WAL belongs to it.

    links: of the live tree as it is, for many entries.
    """
    links = links or LiveLinks(application)
    live = links.place(entry.path, at_end=entry.type != "symlink")
    try:
        status = None if live is None else os.lstat(live)
    except (FileNotFoundError, NotADirectoryError):
        status = None
    after = entry_facts(entry, _mode_of(application, entry, status))
    if live is None or status is None:
        return Item(entry.path, "new", None, after, entry)
    before: dict[str, Any] = {
        "type": _type(status.st_mode),
        "size": status.st_size,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
    }
    same = False
    if entry.type == "symlink" and stat.S_ISLNK(status.st_mode):
        before["target"] = os.readlink(live)
        same = before["target"] == entry.target
    elif entry.type == "file" and stat.S_ISREG(status.st_mode):
        before["sha256"] = sparse_digest(live) if entry.sparse else digest(live)
        database = kind_of_entry(application.profile, entry) == SQLITE
        if database and (before["sha256"] != entry.sha256 or _has_open_companions(live)):
            # SQLite's copy of a database differs from it in its header; two copies of equal content are equal.
            before["sha256"] = digest_of_database(live)
        same = before["sha256"] is not None and before["sha256"] == entry.sha256
    return Item(
        entry.path, "same" if same else "replace", before, after, entry, identity(application, entry.path, links)
    )


def identity(application: Application, path: str, links: Optional[LiveLinks] = None) -> Optional[tuple[int, ...]]:
    """What changes when a file (or, for a database, its WAL) is written. links: as for ``compare``."""
    live = (links or LiveLinks(application)).place(path)
    if live is None:
        return None
    try:
        status = os.lstat(live)
        wal = os.lstat(live + "-wal").st_size if os.path.lexists(live + "-wal") else 0
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, wal)


def _mode_of(application: Application, entry: Entry, live: Optional[os.stat_result]) -> int:
    """The mode that an entry is going to have. live: of what lies at its place."""
    if entry.type == "symlink":
        return entry.mode
    replaced = live is not None and stat.S_ISREG(live.st_mode)
    return granted_rights(application, entry, stat.S_IMODE(live.st_mode) if live and replaced else None).mode


def entry_facts(entry: Entry, mode: Optional[int] = None) -> dict[str, Any]:
    """What a diff may show of an entry: never its content. mode: what it is going to have, where that is known."""
    mode = entry.mode if mode is None else mode
    facts: dict[str, Any] = {"type": entry.type, "size": entry.size, "mode": f"{mode:04o}"}
    if entry.sha256:
        facts["sha256"] = entry.sha256
    if entry.target is not None:
        facts["target"] = entry.target
    if entry.facts.get("tables") is not None:
        facts["rows"] = dict(entry.facts["tables"])
    return facts


def digest(path: str) -> str:
    """SHA-256 of a live file's bytes."""
    descriptor = _open_live(path)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        return digest_of(stream)


def sparse_digest(path: str) -> str:
    """The digest that the manifest has of a file with holes, of a live file."""
    descriptor = _open_live(path)
    try:
        return digest_of_sparse(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _open_live(path: str) -> int:
    """A descriptor of a live file that is to be compared or replaced.

    Raises TradekeepError for one that the account which acts may not read: no backup could keep it.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise TradekeepError(
            "may not be read by the owner of the data, so nothing could keep what would be replaced",
            path=path,
            hint="give it to its owner with 'tradekeep tree --fix', or move it away",
        ) from None


def digest_of(stream: Any) -> str:
    """SHA-256 of what is left of a stream."""
    hasher = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        answer()
        hasher.update(chunk)
    return hasher.hexdigest()


def _has_open_companions(live: str) -> bool:
    """A database whose WAL or journal holds something, or is no file, is not what its main file alone says."""
    for suffix in SIDECAR_SUFFIXES:
        try:
            status = os.lstat(live + suffix)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode) or (suffix != "-shm" and status.st_size > 0):
            return True
    return False


def _covers(pattern: str, path: str) -> bool:
    """Whether a glob names the path itself or a directory above it; a name behind ``./`` is one at the root alone."""
    if pattern.startswith("./"):
        pattern = pattern[2:]
        if "/" not in pattern:
            return matches(pattern, path.partition("/")[0])
    if matches(pattern, path):
        return True
    parts = path.split("/")
    return any(matches(pattern, "/".join(parts[:count])) for count in range(1, len(parts)))


def _type(mode: int) -> str:
    return "symlink" if stat.S_ISLNK(mode) else "directory" if stat.S_ISDIR(mode) else "file"


def _facts_line(facts: Optional[dict[str, Any]]) -> str:
    if facts is None:
        return ""
    if facts["type"] == "symlink" and facts.get("target") is not None:
        return f"(symlink to {facts['target']})"
    parts = [f"{facts['size']} B", facts["mode"]]
    if facts.get("sha256"):
        parts.append(facts["sha256"][:12])
    if facts.get("rows"):
        parts.append(", ".join(f"{name}: {rows}" for name, rows in facts["rows"].items()) + " rows")
    return "(" + ", ".join(parts) + ")"
