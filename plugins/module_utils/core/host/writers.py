# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which processes can write into a directory now: the sign that a bot is alive there, whoever started it.

The name of an open file proves nothing: in a container, behind a bind mount or in a chroot the same file has another.
What is compared is the place of the file on its device, which the number of the mount that it was opened through tells
(proc(5), ``mnt_id`` and ``mountinfo``). Where that does not tell, or a file has several names, device and inode decide.
Only then is the directory walked, once, and by the account that the caller acts as.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

from ..signals import answer
from .companion import companions
from .filesystem.identity import privileged
from .mounts import unescape

PROC = Path("/proc")
# proc(5): address, permissions, offset, device, inode, name. Only what is shared reaches the file.
_SHARED = re.compile(rb"^\S+ ..[-x]s \S+ ([0-9a-f]+):([0-9a-f]+) (\d+) +(/.*)$", re.MULTILINE)
_MOST_PARENTS = 64


@dataclass(frozen=True)
class Writer:
    """A process that has a file beneath the directory open for writing, or shares it as memory.

    path: the file as this host knows it.
    """

    pid: int
    program: str
    path: str
    maps: bool = False

    def __str__(self) -> str:
        how = "shares as memory" if self.maps else "writes"
        return f"{self.program or 'a process'} (process {self.pid}) {how} {self.path}"


class _Mount(NamedTuple):
    """A line of mountinfo. root: what of the device is mounted at the point."""

    device: str
    root: str
    point: str

    def place_of(self, name: str) -> Optional[str]:
        """Where on the device a name lies; None where the name does not lead through the point."""
        rest = _beneath(name, self.point)
        return None if rest is None else _joined(self.root, rest)


class _Place(NamedTuple):
    """A part of the directory on one device, and how this host calls it."""

    device: str
    inside: str
    name: str


class _Unsure(NamedTuple):
    """An open file whose place is not known, by what identifies it."""

    pid: int
    device: int
    inode: int


_Mounts = Mapping[str, _Mount]


def writers_in(*directories: Path, spared: Collection[int] = ()) -> tuple[Writer, ...]:
    """One entry for each such process but this one and its workers; root sees all, others see their own.

    spared: numbers of processes that are known to be none.
    """
    real = [os.path.realpath(directory) for directory in directories]
    with privileged():
        look = _Look(real, spared)
        found = list(look.writers())
    if look.unsure:
        known = {writer.pid for writer in found}
        by_inode = _found_beneath(real, {(item.device, item.inode) for item in look.unsure})
        for item in look.unsure:
            path = by_inode.get((item.device, item.inode))
            if path is not None and item.pid not in known:
                known.add(item.pid)
                found.append(Writer(item.pid, _program(item.pid), path))
    return tuple(sorted(found, key=lambda writer: writer.pid))


def sees_every_process() -> bool:
    """Whether ``writers_in`` can look into processes of other accounts."""
    return os.geteuid() == 0


class _Look:
    """One look at all processes. unsure: afterwards, what only the inodes of the directory can decide."""

    def __init__(self, directories: Sequence[str], spared: Collection[int]) -> None:
        mounts = _mounts_of("self")
        self._mounts: dict[str, _Mounts] = {_namespace_of("self"): mounts}
        self._places = [place for directory in directories for place in _places_of(directory, mounts)]
        self._devices = {place.device for place in self._places}
        self._spared = {os.getpid(), *spared}
        self.unsure: list[_Unsure] = []

    def writers(self) -> Iterator[Writer]:
        """What is certain."""
        for entry in sorted(int(name) for name in os.listdir(PROC) if name.isdigit()):
            if entry in self._spared:
                continue
            with contextlib.suppress(OSError):  # it is gone, or another account's
                found = next(self._written(entry), None) or next(self._shared(entry), None)
                if found is not None and not _works_for_us(entry):
                    yield found

    def _written(self, pid: int) -> Iterator[Writer]:
        directory = f"{PROC}/{pid}/fd"
        for number in os.listdir(directory):
            with contextlib.suppress(OSError, ValueError):
                link = f"{directory}/{number}"
                name = os.readlink(link)
                # The mode of the link tells how the file was opened.
                if name.startswith("/") and os.lstat(link).st_mode & stat.S_IWUSR:
                    path = self._place_of(pid, number, link, name)
                    if path is not None:
                        yield Writer(pid, _program(pid), path)

    def _place_of(self, pid: int, number: str, link: str, name: str) -> Optional[str]:
        """How this host calls an open file of the directory; None for any other file."""
        mount = self._mounts_in_sight(pid).get(_mount_number(pid, number))
        if mount is not None and mount.device not in self._devices:
            return None
        place = None if mount is None else mount.place_of(name)
        path = None if mount is None or place is None else self._here(mount.device, place)
        if path is not None:
            return path
        # A file on another device is not asked for anything: it can lie on a server that does not answer.
        facts = os.stat(link)
        if stat.S_ISREG(facts.st_mode) and (place is None or facts.st_nlink > 1):
            self.unsure.append(_Unsure(pid, facts.st_dev, facts.st_ino))
        return None

    def _shared(self, pid: int) -> Iterator[Writer]:
        for major, minor, _inode, name in _SHARED.findall(_read(f"{PROC}/{pid}/maps")):
            device = f"{int(major, 16)}:{int(minor, 16)}"
            if device in self._devices:
                path = self._here_by_name(pid, device, os.fsdecode(name))
                if path is not None:
                    yield Writer(pid, _program(pid), path, maps=True)

    def _here_by_name(self, pid: int, device: str, name: str) -> Optional[str]:
        holding: Optional[_Mount] = None
        for mount in self._mounts_in_sight(pid).values():
            lies = mount.device == device and _beneath(name, mount.point) is not None
            if lies and (holding is None or len(mount.point) >= len(holding.point)):
                holding = mount
        place = None if holding is None else holding.place_of(name)
        return None if place is None else self._here(device, place)

    def _here(self, device: str, place: str) -> Optional[str]:
        """How this host calls a place on a device; None where it is not in the directory."""
        for item in self._places:
            rest = _beneath(place, item.inside) if item.device == device else None
            if rest is not None:  # nothing of it where the place is a file itself
                return _joined(item.name, rest)
        return None

    def _mounts_in_sight(self, pid: int) -> _Mounts:
        namespace = _namespace_of(pid)
        if namespace not in self._mounts:
            self._mounts[namespace] = _mounts_of(pid)
        return self._mounts[namespace]


def _places_of(directory: str, mounts: _Mounts) -> tuple[_Place, ...]:
    """The directory, and every mount beneath it, where they lie on their devices."""
    on: Optional[_Mount] = None
    places = []
    for mount in mounts.values():
        if _beneath(mount.point, directory):
            places.append(_Place(mount.device, mount.root, mount.point))
        elif _beneath(directory, mount.point) is not None and (on is None or len(mount.point) >= len(on.point)):
            on = mount
    inside = None if on is None else on.place_of(directory)
    return (*places, *(() if on is None or inside is None else (_Place(on.device, inside, directory),)))


def _found_beneath(directories: Sequence[str], wanted: Collection[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """The paths of files beneath directories, by device and inode."""
    inodes = {inode for _device, inode in wanted}
    found: dict[tuple[int, int], str] = {}
    waiting = list(directories)
    while waiting and len(found) < len(wanted):
        answer()
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.inode() in inodes:
                    facts = entry.stat(follow_symlinks=False)
                    if (facts.st_dev, facts.st_ino) in wanted:
                        found[facts.st_dev, facts.st_ino] = entry.path
    return found


def _mounts_of(pid: object) -> _Mounts:
    """By number; empty where the system does not tell."""
    found = {}
    with contextlib.suppress(OSError):
        for line in os.fsdecode(_read(f"{PROC}/{pid}/mountinfo")).split("\n"):
            fields = line.split(" ", 5)
            if len(fields) > 5:
                found[fields[0]] = _Mount(fields[2], unescape(fields[3]), unescape(fields[4]))
    return found


def _namespace_of(pid: object) -> str:
    try:
        return os.readlink(f"{PROC}/{pid}/ns/mnt")
    except OSError:
        return f"of process {pid}"


def _mount_number(pid: int, descriptor: str) -> str:
    for line in _read(f"{PROC}/{pid}/fdinfo/{descriptor}").decode("ascii", "replace").splitlines():
        if line.startswith("mnt_id:"):
            return line.split()[1]
    return ""


def _beneath(name: str, directory: str) -> Optional[str]:
    """What follows a directory in a name, empty for the directory itself; None where it is not in there."""
    if name == directory:
        return ""
    above = directory.rstrip("/") + "/"
    return name[len(above) :] if name.startswith(above) else None


def _joined(directory: str, rest: str) -> str:
    return f"{directory.rstrip('/')}/{rest}" if rest else directory


def _works_for_us(pid: int) -> bool:
    """Whether it is a worker of this process, or was begun by one. Who works for us is known by number, not by name."""
    ours = companions()
    for _step in range(_MOST_PARENTS if ours else 0):
        if pid in ours:
            return True
        # The name is in brackets, and can hold any character.
        pid = int(_read(f"{PROC}/{pid}/stat").rpartition(b")")[2].split()[1])
        if pid <= 1:
            break
    return False


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _program(pid: int) -> str:
    try:
        return _read(f"{PROC}/{pid}/comm").decode("utf-8", "replace").strip()
    except OSError:
        return ""
