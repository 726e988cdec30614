# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a backup would capture, where it would go and what stands against it. Read-only."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Union

from ..application import Application, Encryption, Tier
from ..archive.safety import SYMLINK
from ..errors import CaptureError, ConfigurationError, EmptyError, SpaceError
from ..host.files import space
from ..host.filesystem.holes import data_at
from ..host.fstab import require_mounted
from ..patterns import classify_directory
from ..ports import Ports
from ..storage.local import Backup, LocalCatalog
from ..storage.names import check_name
from ..storage.vanished import NEW_DIRECTORY
from ..transaction.exchange import refuse_pending
from .basis import Basis, basis_of, current_places, newest_good
from .found import Found, Share, Thing
from .keys import encryption_of
from .links import MissedLinks, links_from
from .losses import Held
from .scan import check_root, expected_paths
from .tally import Tally
from .text import counted, human_bytes
from .uncovered import Uncovered
from .whole_names import WholeNames

ASSUMED_RATIO = 0.5
"""Archive bytes per data byte before there is an earlier backup to learn from (the seeds' own figure is 0.2)."""


_FOUND_BY_SURVEY = ("files", "bytes", "largest_database", "components", "space_needed", "content", "free")


@dataclass(frozen=True)
class BackupPlan:
    """What a backup would capture."""

    tier: Tier
    name: Optional[str]
    encryption: Encryption
    directory: Path
    files: int
    bytes: int
    largest_database: int
    components: dict[str, dict[str, int]]
    missing: tuple[str, ...]
    excluded: tuple[str, ...]
    previous: Optional[Backup]
    space_needed: int
    basis: Optional[Basis] = None
    """What it is compared with. previous: the newest good backup, from which its size is learnt."""
    content: dict[str, int] = field(default_factory=dict)
    free: dict[str, list[int]] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    """See ``Tally`` and ``Held``."""
    uncovered: Uncovered = field(default_factory=Uncovered)
    links: dict[str, str] = field(default_factory=dict)
    more_links: int = 0
    """See ``MissedLinks``."""
    stand_ins: dict[str, str] = field(default_factory=dict)
    """See ``Tally``."""
    whole_names: Optional[tuple[str, ...]] = field(default=None, repr=False)
    """See ``WholeNames``."""
    expired_keys: tuple[str, ...] = ()
    """What is to be said of keys that it is not encrypted to any more."""
    paths: tuple[tuple[str, int, str], ...] = field(default=(), repr=False)
    """Path, size and kind of each file; only filled for showing."""

    @classmethod
    def of_label(cls, label: str, encryption: Encryption, directory: Path) -> BackupPlan:
        """A request for a backup that an operation makes beside its own work, whatever there is."""
        return cls(
            tier=Tier.MANUAL,
            name=label,
            encryption=encryption,
            directory=directory,
            files=0,
            bytes=0,
            largest_database=0,
            components={},
            missing=(),
            excluded=(),
            previous=None,
            space_needed=0,
        )

    @property
    def guarded(self) -> dict[str, int]:
        """How many files each component has without those that may go."""
        return {name: share["files"] - self.free.get(name, [0])[0] for name, share in self.components.items()}

    def as_completion(self) -> dict[str, Any]:
        """What was found in the tree, as JSON."""
        facts = {name: getattr(self, name) for name in _FOUND_BY_SURVEY}
        names = {name: list(getattr(self, name)) for name in ("missing", "lost", "empty")}
        paths = [list(item) for item in self.paths]
        whole = None if self.whole_names is None else list(self.whole_names)
        links = {"links": self.links, "more_links": self.more_links, "stand_ins": self.stand_ins}
        return {**facts, **names, **links, "uncovered": self.uncovered.as_dict(), "paths": paths, "whole_names": whole}

    def completed_by(self, found: Any) -> BackupPlan:
        """This plan with what another process found in the tree."""
        try:
            return replace(
                self,
                files=int(found["files"]),
                bytes=int(found["bytes"]),
                largest_database=int(found["largest_database"]),
                space_needed=int(found["space_needed"]),
                components={str(name): dict(share) for name, share in found["components"].items()},
                content={str(name): int(size) for name, size in found["content"].items()},
                free={str(name): [int(files), int(size)] for name, (files, size) in found["free"].items()},
                missing=tuple(str(path) for path in found["missing"]),
                lost=tuple(str(path) for path in found["lost"]),
                empty=tuple(str(path) for path in found["empty"]),
                uncovered=Uncovered.of(found["uncovered"]),
                links=links_from(found["links"]),
                more_links=max(0, int(found["more_links"])),
                stand_ins={str(path): str(place) for path, place in found["stand_ins"].items()},
                whole_names=None if found["whole_names"] is None else tuple(map(str, found["whole_names"])),
                paths=tuple((str(path), int(size), str(kind)) for path, size, kind in found["paths"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CaptureError(f"the process that looks at the data gives no account of it: {error}") from None

    def as_dict(self) -> dict[str, Any]:
        """The plan as ``--json`` shows it."""
        return {
            "tier": self.tier.value,
            "name": self.name,
            "encrypted": self.encryption.configured,
            "directory": str(self.directory),
            "files": self.files,
            "bytes": self.bytes,
            "components": self.components,
            "missing": list(self.missing),
            "excluded": list(self.excluded),
            "space_needed": self.space_needed,
            "entries": [{"path": path, "bytes": size, "kind": kind} for path, size, kind in self.paths],
        }


def request_backup(
    application: Application,
    ports: Ports,
    tier: str,
    name: Optional[str],
    encrypt: Optional[bool],
    output: Optional[str],
    allowed: Collection[str] = (),
) -> BackupPlan:
    """What is wanted, checked as far as it can be without looking through the tree. allowed: see ``losses``."""
    if name is not None:
        check_name(name)
    catalog = LocalCatalog(application, ports.clock)
    _refuse_lost_root(application, catalog)
    if output is None and NEW_DIRECTORY not in allowed:
        catalog.require_present()
    check_root(application)
    refuse_pending(Path(application.application_state_dir))
    chosen_tier = _tier(tier)
    return BackupPlan(
        tier=chosen_tier,
        name=name,
        encryption=choose_encryption(application, chosen_tier, encrypt),
        directory=_directory(application, output),
        files=0,
        bytes=0,
        largest_database=0,
        components={},
        missing=(),
        excluded=tuple(pattern for component in application.profile.components for pattern in component.exclude),
        previous=newest_good(catalog),
        space_needed=0,
        basis=basis_of(application, catalog),
    )


def _refuse_lost_root(application: Application, catalog: LocalCatalog) -> None:
    """Where there was data, the way out is not to make an empty directory."""
    basis = None if os.path.lexists(application.root) else basis_of(application, catalog)
    if basis is not None:
        files = sum(basis.files.values())
        raise CaptureError(
            f"the data directory is missing, and {basis.name} held {counted(files, 'file')} of it",
            path=application.root,
            hint="mount its disk, or set tradekeep_root to where the data is and run the site playbook",
        )


def choose_encryption(application: Application, tier: Tier, wanted: Optional[bool]) -> Encryption:
    """How to encrypt: with a key that is configured always, unless it is written that there shall be plain archives.

    Raises ConfigurationError when it is wanted and cannot be done, and when a secret would lie in a plain archive.
    """
    said = _said_of(application, tier) if wanted is None else wanted
    required = [item.name for item in application.profile.components if item.backup and item.require_encryption]
    if wanted is False and required:
        raise ConfigurationError(
            f"component {required[0]} must be encrypted",
            path=application.config_file,
            hint="leave out the refusal to encrypt",
        )
    if application.encryption.configured:
        secret = application.secret_components
        if said is False and secret:
            raise ConfigurationError(
                f"component {secret[0]} holds secrets, and there is a key: it is in no plain archive",
                path=application.config_file,
                hint="leave out the refusal to encrypt",
            )
        return Encryption() if said is False else encryption_of(application)
    if said or required:
        raise ConfigurationError(
            "an encrypted backup is wanted, but nothing to encrypt with is configured",
            path=application.config_file,
            hint="set backup_gpg_recipients or backup_passphrase_file and run the site playbook",
        )
    return Encryption()


def _said_of(application: Application, tier: Tier) -> Optional[bool]:
    """What the schedules of a tier say: plain archives only where all of them do."""
    said = [item.encrypt for item in application.profile.schedules if item.tier is tier]
    if any(said):
        return True
    return False if said and all(item is False for item in said) else None


def check_space(plan: BackupPlan, scratch: Optional[Path] = None) -> None:
    """Raises SpaceError unless the archive and the largest scratch copy fit.

    scratch: the directory for such copies where it is not the archive's own.
    """
    if scratch is not None and space(scratch).bytes_free < plan.largest_database:
        raise SpaceError(
            f"{human_bytes(plan.largest_database)} needed for a copy of the largest database, "
            f"{human_bytes(space(scratch).bytes_free)} free",
            path=scratch,
            hint="free some space there, or set tradekeep_state_dir to a larger disk",
        )
    free = space(plan.directory)
    if free.bytes_free < plan.space_needed:
        raise SpaceError(
            f"{human_bytes(plan.space_needed)} needed, {human_bytes(free.bytes_free)} free",
            path=plan.directory,
            hint="free some space, run 'tradekeep prune', or use --output",
        )
    if free.inodes_free is not None and free.inodes_free < 32:
        raise SpaceError("no inodes left", path=plan.directory, hint="remove some small files")


def _tier(tier: str) -> Tier:
    try:
        return Tier(tier)
    except ValueError:
        raise ConfigurationError(
            "no such tier", path=tier, hint=f"one of {', '.join(item.value for item in Tier)}"
        ) from None


def _directory(application: Application, output: Optional[str]) -> Path:
    directory = Path(output or application.backup_dir)
    require_mounted(directory)
    if not directory.is_absolute():
        directory = Path.cwd() / directory
    real = Path(os.path.realpath(directory))
    root = Path(os.path.realpath(application.root))
    found = classify_directory(application.profile, os.path.relpath(real, root)) if root in real.parents else None
    if found is not None:
        raise _inside(directory, found.component.name)
    ancestor = directory
    while not ancestor.exists():
        ancestor = ancestor.parent
    if not ancestor.is_dir():
        raise ConfigurationError("not a directory", path=ancestor, hint="choose another backup directory")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise ConfigurationError(
            "the backup directory is not writable", path=directory, hint="run as its owner or mend its mode"
        )
    return directory


def _inside(directory: Path, component: str) -> ConfigurationError:
    return ConfigurationError(
        f"the backup directory lies inside the data (component {component})",
        path=directory,
        hint="choose a directory outside, better on another disk",
    )


def measure(things: Iterable[Union[Thing, Share]], plan: BackupPlan) -> BackupPlan:
    """The plan with how much there is to capture, for a backup that has to be made of whatever there is."""
    files = total = largest = in_wal = 0
    for found in things:
        files += found.files
        total += _data_of(found)
        if isinstance(found, Found):
            beside = wal_of(found)
            in_wal += beside
            if found.kind == "sqlite" or beside:
                largest = max(largest, found.size + beside)
    needed = _needed(total + in_wal, ASSUMED_RATIO, largest)
    return replace(plan, files=files, bytes=total, largest_database=largest, space_needed=needed)


def _needed(data: int, ratio: float, largest: int) -> int:
    """Bytes for an archive, and for a copy of the largest database while it is made. A WAL becomes part of its copy."""
    return int(data * ratio) + largest + (1 << 20)


def survey(
    application: Application, things: Iterable[Union[Thing, Share]], plan: BackupPlan, list_paths: bool
) -> BackupPlan:
    files = total = largest = in_wal = 0
    components: dict[str, dict[str, int]] = {}
    paths: list[tuple[str, int, str]] = []
    held = set(plan.basis.databases) if plan.basis else set()
    wanted = expected_paths(application)
    tally, names, links = Tally(held | wanted), WholeNames(application), MissedLinks(application)
    for found in things:
        tally.add(found)
        names.add(found)
        if isinstance(found, Found) and found.type == SYMLINK:
            tally.add_link(found, links.see(found))
        if found.type != "file":
            continue
        files += found.files
        data = _data_of(found)
        total += data
        _count(components, found.component, found.files, data)
        if not isinstance(found, Found):
            continue
        if found.size == 0 and found.kind == "sqlite" and (found.required or found.path in held):
            raise EmptyError("the database is empty (0 bytes)", path=found.absolute)
        beside = wal_of(found)
        in_wal += beside
        if found.kind == "sqlite" or beside:
            largest = max(largest, found.size + beside)
        if list_paths:
            paths.append((found.path, found.size, found.kind or "file"))
    ratio = ASSUMED_RATIO
    if plan.previous and plan.previous.sidecar.get("bytes"):
        ratio = min(1.0, 1.25 * plan.previous.size / plan.previous.sidecar["bytes"])
    return replace(
        plan,
        files=files,
        bytes=total,
        largest_database=largest,
        components=components,
        content=tally.content,
        free=tally.free,
        missing=tuple(sorted(path for path in wanted if path not in tally.seen)),
        lost=tuple(sorted(held - tally.seen)),
        empty=tuple(sorted(tally.empty)),
        links=links.named,
        more_links=links.more,
        stand_ins=tally.stand_ins,
        space_needed=_needed(total + in_wal, ratio, largest),
        paths=tuple(paths),
        whole_names=names.result(),
    )


def _data_of(found: Union[Thing, Share]) -> int:
    """How much is to be archived: of a sparse file its data alone."""
    return data_at(found.absolute, found.size) if isinstance(found, Found) and found.kind == "file" else found.size


def held_by(application: Application, plan: BackupPlan) -> Held:
    """What a plan found, to be compared with what was there."""
    return Held(
        files=plan.guarded,
        free=plan.free,
        content=plan.content,
        lost=plan.lost,
        missing=plan.missing,
        empty=plan.empty,
        places=current_places(application),
        links=plan.links,
    )


def wal_size(database: str) -> int:
    """Bytes beside a database that may have to be copied with it."""
    try:
        return os.lstat(f"{database}-wal").st_size
    except OSError:
        return 0


def wal_of(found: Found) -> int:
    """The same of a file that is found, where it is captured with what lies beside it."""
    return wal_size(found.absolute) if found.kind in ("sqlite", "file") else 0


def _count(components: dict[str, dict[str, int]], component: str, files: int, size: int) -> None:
    share = components.setdefault(component, {"files": 0, "bytes": 0})
    share["files"] += files
    share["bytes"] += size
