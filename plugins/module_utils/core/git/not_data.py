# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What is no data where a component names the whole root: code, virtual environments, and what is ours.

Code is what git tracks in the checkout, and what the deploy that stands put there; not what that deploy found there and
left alone, although git tracks it. No program is run: a process of the owner's account reads the index. One that does
not say everything is refused: after a guess a backup could leave out data, and a restore remove code.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import Any, Optional

from ..application import Application, Looked
from ..component_paths import LEFT_OUT_OF_WHOLE
from ..deploy_settings import Layout
from ..errors import ConfigurationError, TradekeepError
from ..host.account import Account, owner_of
from ..host.files import os_errors
from ..host.filesystem.identity import with_privileges
from ..host.worker import needs_worker, run_worker, worker_account
from ..ports import NoProgress
from .index_names import all_tracked

LARGEST_INDEX = 64 << 20
MOST_LOOKED_INTO = 2_000
"""Directories in which a virtual environment is looked for: those at the root, and those in them."""
_LARGEST_LINK = 4096
_PATIENCE = 120.0
_NOBODY = 65534


class BesideData:
    """See ``application.NotData``. source: where data comes from; the git there says what is code."""

    def __init__(self, application: Application, source: Optional[Path] = None) -> None:
        self._application = application
        self._source = source
        self._looked: Optional[Looked] = None

    @property
    def ours(self) -> frozenset[str]:
        """See ``application.NotData``."""
        places = (_below(self._application.root, place) for place in _our_places(self._application))
        return frozenset(place for place in places if place)

    def look(self) -> Looked:
        """See ``application.NotData``."""
        if self._looked is None:
            self._looked = self._found()
        return self._looked

    def _found(self) -> Looked:
        application = self._application
        if self._source is not None:
            # Read with the rights that the caller has. What is code here cannot arrive as data either.
            said = look_at([str(self._source)])
            here = application.profile.not_data
            return _looked(said, PurePosixPath(self._source), here.look().tracked if here else frozenset())
        if not os.path.isdir(application.root):
            return Looked()
        said = _looked_up_apart(application, [str(application.root), *_checkouts_below(application)])
        put_there, left_alone = _deployed(application)
        looked = _looked(said, application.root, put_there)
        return Looked(looked.tracked - left_alone, looked.directories)


def look_at(tops: Sequence[str]) -> dict[str, Any]:
    """What git tracks in each of some directories, and the virtual environments in the first, as JSON."""
    return {
        "tracked": {top: sorted(_tracked_in(top)) for top in dict.fromkeys(tops)},
        "directories": list(_environments(tops[0])),
    }


def _looked_up_apart(application: Application, tops: Sequence[str]) -> dict[str, Any]:
    try:
        owner = owner_of(application)
    except ConfigurationError:  # an account that is only going to be made
        owner = Account(name=f"#{_NOBODY}", uid=_NOBODY, gid=_NOBODY, home="/")
    account = worker_account(owner)
    if not needs_worker(account, False):
        return look_at(tops)
    said: dict[str, Any] = run_worker(
        lambda _outlet, _news: look_at(tops), account=account, progress=NoProgress(), seconds=_PATIENCE
    )
    return said


def _looked(said: Any, root: PurePosixPath, more: Iterable[str]) -> Looked:
    """What another process said; one that was taken over may say anything, in the right form."""
    try:
        tracked = {
            f"{_below(root, PurePosixPath(top))}/{name}".lstrip("/")
            for top, names in said["tracked"].items()
            for name in names
        }
        return Looked(frozenset((*tracked, *more)), frozenset(map(str, said["directories"])))
    except (KeyError, TypeError, AttributeError):
        raise TradekeepError("the process that reads git's index says what nobody understands") from None


def _our_places(application: Application) -> Iterator[PurePosixPath]:
    yield from (application.backup_dir, application.state_dir, application.config_dir, application.bin_dir)
    deploy, checkout = application.profile.deploy, application.checkout
    if deploy.layout is Layout.RELEASES:
        yield from (checkout, checkout / "releases", checkout / "current")
    elif deploy.dependencies is not None:
        yield checkout / deploy.dependencies.environment


def _checkouts_below(application: Application) -> list[str]:
    below = application.root in application.checkout.parents
    return [str(application.checkout)] if below and application.profile.deploy.layout is Layout.IN_PLACE else []


def _below(root: PurePosixPath, place: PurePosixPath) -> str:
    """A place relative to the root; empty for the root itself and for what lies elsewhere."""
    return place.relative_to(root).as_posix() if root in place.parents else ""


def _tracked_in(top: str) -> frozenset[str]:
    """Nothing where there is no checkout. Raises TradekeepError where there is one that does not say what it tracks."""
    git = f"{top}/.git"
    if not os.path.lexists(git):
        return frozenset()
    try:
        if not os.path.isdir(git):
            # Of a linked work tree, or a submodule: the file says where.
            words = os.fsdecode(_read(git, _LARGEST_LINK)).partition(":")
            git = os.path.join(top, words[2].strip("\n").strip(" "))
        return all_tracked(_read(f"{git}/index", LARGEST_INDEX))
    except (OSError, ValueError) as error:
        index = f"{git}/index"
        reason = error.strerror if isinstance(error, OSError) else error.args[0]
        anew = f"rm -f {quote(index)} && git -C {quote(top)} reset --quiet"
        mended = anew if isinstance(error, OSError) or len(error.args) == 1 else f"git -C {quote(top)} {error.args[1]}"
        raise TradekeepError(
            f"git's index cannot tell code from data: {reason}",
            path=index,
            hint=f"as the owner of the checkout run: {mended} ; or name the data in paths instead of .",
        ) from None


def _read(path: str, largest: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no plain file")
        data = stream.read(largest + 1)
    if len(data) > largest:
        raise ValueError("it is too large")
    return data


def _environments(root: str) -> Iterator[str]:
    """The virtual environments near the root, whatever they are called."""
    left = MOST_LOOKED_INTO
    waiting = [""]
    while waiting:
        above = waiting.pop(0)
        for name in _directories_in(os.path.join(root, above)):
            left -= 1
            if left < 0:
                return  # what is not found counts as data
            path = f"{above}/{name}" if above else name
            if os.path.lexists(f"{root}/{path}/pyvenv.cfg"):
                yield path
            elif not above:
                waiting.append(path)


def _directories_in(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            found = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    return [name for name in found if name not in LEFT_OUT_OF_WHOLE]


def _deployed(application: Application) -> tuple[frozenset[str], frozenset[str]]:
    """What the deploy that stands put below the root, and what it found there and left alone."""
    checkout, root = application.checkout, application.root
    if application.profile.deploy.layout is not Layout.IN_PLACE or root not in (checkout, *checkout.parents):
        return frozenset(), frozenset()
    prefix = f"{_below(root, checkout)}/".lstrip("/")
    manifest = _manifest(Path(application.application_state_dir) / "deploy")
    ours, others = (
        frozenset(f"{prefix}{name}" for name, is_ours in manifest if is_ours is wanted) for wanted in (True, False)
    )
    return ours, others


@with_privileges
def _manifest(records: Path) -> list[tuple[str, bool]]:
    """Each path of the commit that was deployed, and whether a deploy put it there; see ``deploy.records``."""
    try:
        with os_errors(records):
            try:
                os.lstat(records / "deployed.json")
            except FileNotFoundError:
                return []
            identifier = json.loads((records / "deployed.json").read_bytes())["identifier"]
            lines = (records / f"code-{identifier}.jsonl").read_text("ascii").splitlines()
        return [(str(name), bool(is_ours)) for name, _mode, _oid, _sha256, is_ours in map(json.loads, lines)]
    except (ValueError, TypeError, KeyError) as error:
        raise TradekeepError(
            f"what was deployed cannot be read: {error}", path=records, hint="deploy again, then run this again"
        ) from error
