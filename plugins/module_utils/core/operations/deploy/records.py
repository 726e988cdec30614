# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What is remembered of deploys: the one that stands, and the record of each.

``<state_dir>/<app>/deploy/deployed.json`` names the deploy that stands; that it names a deploy is what commits it.
``code-<id>.jsonl`` beside it is the code manifest, ``records/`` holds one file for each deploy.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from ...application import Application
from ...errors import TradekeepError
from ...host.files import atomic_write, make_private_directory, os_errors
from ...host.filesystem.identity import with_privileges
from ...storage.choice import is_future
from .code import CodeManifest, read_manifest, write_manifest

RUNNING = "running"
"""The state in the record of a deploy that has begun, and CUT_OFF of one that was killed."""
CUT_OFF = "cut_off"
_STAMP = "%Y%m%d_%H%M%S"


@dataclass(frozen=True)
class Deployed:
    """The deploy that stands. history: the commits before it, to which rollbacks lead, the latest last.

    release: its directory in the layout releases. waiting: files that must be there before services are started.
    """

    identifier: str
    commit: str
    ref: str
    at: str
    history: tuple[str, ...] = ()
    release: Optional[str] = None
    environment: Optional[str] = None
    waiting: tuple[str, ...] = ()

    @property
    def previous(self) -> Optional[str]:
        """The commit that a rollback leads to."""
        return self.history[-1] if self.history else None


class DeployRecords:
    """The directory of one application's deploys; ours, so root's rights count in it whoever acts."""

    def __init__(self, application: Application) -> None:
        self.directory = Path(application.application_state_dir) / "deploy"
        self._standing = self.directory / "deployed.json"
        self._records = self.directory / "records"

    @with_privileges
    def prepare(self) -> None:
        """Create what is missing."""
        make_private_directory(self.directory.parent)
        make_private_directory(self.directory)
        make_private_directory(self._records)

    @with_privileges
    def standing(self) -> Optional[Deployed]:
        """The deploy that stands, None before the first."""
        found = _read_json(self._standing)
        if found is None:
            return None
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
        }
        try:
            return Deployed(**fields)
        except TypeError as error:
            raise _damaged(self._standing, error) from error

    @with_privileges
    def manifest(self, deployed: Deployed) -> CodeManifest:
        """What that deploy put into the checkout."""
        return read_manifest(self._manifest_file(deployed.identifier), deployed.commit)

    @with_privileges
    def commit(self, deployed: Deployed, manifest: CodeManifest) -> None:
        """From here on this deploy stands."""
        before = self.standing()
        write_manifest(self._manifest_file(deployed.identifier), manifest.entries.values())
        atomic_write(self._standing, _as_json(asdict(deployed)))
        for leftover in self.directory.glob("code-*.jsonl"):
            keep = {deployed.identifier, before.identifier if before else ""}
            if leftover.stem[len("code-") :] not in keep:
                with contextlib.suppress(OSError):
                    leftover.unlink()

    @with_privileges
    def write(self, moment: datetime, identifier: str, record: Mapping[str, Any]) -> Path:
        """Keep the record of one deploy, whatever became of it."""
        path = self._records / f"{moment:{_STAMP}}_{identifier[:8]}.json"
        atomic_write(path, _as_json(record))
        return path

    @with_privileges
    def log(self, now: datetime) -> list[dict[str, Any]]:
        """All records, newest first, and after all others those that are dated in the future.

        A damaged one says so in its place.
        """
        # Names tell seconds, in which there may be several.
        return sorted(
            self._all(),
            key=lambda item: (not is_of_future(item, now), _stamp(item), str(item.get("at", ""))),
            reverse=True,
        )

    def _all(self) -> list[dict[str, Any]]:
        found = []
        for path in sorted(self._records.glob("*.json")) if self._records.is_dir() else ():
            try:
                found.append({**(_read_json(path) or {}), "record": str(path)})
            except TradekeepError as error:
                found.append({"record": str(path), "state": "damaged", "error": error.message})
        return found

    @with_privileges
    def close_cut_off(self) -> None:
        """Say in the records of killed deploys what they are. Only while holding the application's lock."""
        for record in self._all():
            if record.get("state") == RUNNING:
                path = Path(record.pop("record"))
                atomic_write(path, _as_json({**record, "state": CUT_OFF}))

    def outputs(self, moment: datetime, identifier: str) -> Path:
        """The directory for what one deploy keeps: output of hooks and pip, differences, the quarantine."""
        return self._records / f"{moment:%Y%m%d_%H%M%S}_{identifier[:8]}"

    def quarantine(self, moment: datetime, identifier: str) -> Path:
        """The directory for files that one deploy replaced or removed, and that no deploy had put there like this."""
        return self.outputs(moment, identifier) / "quarantine"

    def _manifest_file(self, identifier: str) -> Path:
        return self.directory / f"code-{identifier}.jsonl"


def is_of_future(record: Mapping[str, Any], now: datetime) -> bool:
    """Whether a record in the log tells of a clock that was wrong when it was made, or is wrong now."""
    try:
        moment = datetime.strptime(_stamp(record), _STAMP).replace(tzinfo=timezone.utc)
    except ValueError:
        return False
    return is_future(moment, now)


def _stamp(record: Mapping[str, Any]) -> str:
    """When it was made, as the name of its file says."""
    return Path(record["record"]).name[:15]


def _read_json(path: Path) -> Optional[dict[str, Any]]:
    try:
        with os_errors(path):
            document = json.loads(path.read_bytes())
    except (TradekeepError, ValueError) as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise _damaged(path, error) from error
    if not isinstance(document, dict):
        raise _damaged(path, "not an object")
    return document


def _damaged(path: Path, reason: object) -> TradekeepError:
    return TradekeepError(
        f"what was deployed cannot be read: {reason}", path=path, hint="move the file away to adopt the checkout again"
    )


def _as_json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode("ascii")
