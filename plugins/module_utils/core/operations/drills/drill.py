# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A drill: the newest backup, restored for practice as a stranger would, with live data and services left alone.

What stands in the way of a recovery, such as a damaged archive or a missing key, is what a drill is there to find: it
is a finding in the record, and no failure of the drill. Backups go on meanwhile; only two drills keep out of each
other's way.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ...application import Application
from ...errors import InterruptedBySignal, TradekeepError, UsageError
from ...host.files import make_private_directory
from ...ports import Ports
from ...storage.backup import iso
from ...transaction.lock import application_lock
from ..keys import Keys, host_key_for
from ..leftovers import reader_account
from ..outcome import Outcome
from ..provenance import note_other_maker, refuse_other_maker
from ..reading import passphrase_for
from ..text import human_bytes
from .checks import check_unpacked
from .findings import Findings
from .live import RecoveryPoint, look_at_live
from .record import drill_lines, record_path, records_directory, remember, status_of, write_record
from .scratch import check_space, scratch_base, scratch_place
from .source import LOCAL, Chosen, choose_backup
from .unpacking import Size, Unpacked, choose_part, keys_for, prove_checksum, size_up, unpack_into

VERSION = 1


def drill(
    application: Application,
    ports: Ports,
    *,
    reference: str = "latest",
    source: str = LOCAL,
    key_file: Optional[str] = None,
    passphrase_file: Optional[str] = None,
    dry_run: bool = False,
) -> Outcome:
    """Restore a backup into a scratch place, check all of it, and compare the time taken with the targets.

    reference: ``latest`` (the newest by name), a name or a path. source: ``local``, or a directory that holds copies.
    key_file: the secret key of a backup to a public one, which has to open the newest. Without it the host's own key
    is taken, and the newest that it opens; the account's keyring is not asked.
    """
    run = _Run(
        application,
        ports,
        reference,
        source,
        key_file or application.profile.drill.key_file,
        passphrase_for(application, passphrase_file),
    )
    if dry_run:
        return run.plan()
    make_private_directory(Path(application.application_state_dir))
    with application_lock(records_directory(application), operation="drill", clock=ports.clock):
        return run.carry_out()


@dataclass
class _Run:
    application: Application
    ports: Ports
    reference: str
    source: str
    key_file: Optional[str]
    passphrase_file: Optional[str]
    findings: Findings = field(default_factory=Findings)
    chosen: Optional[Chosen] = None
    unpacked: Optional[Unpacked] = None
    point: RecoveryPoint = field(default_factory=lambda: RecoveryPoint(None, None, "unknown", None))

    def plan(self) -> Outcome:
        """What would be drilled; nothing is written."""
        chosen = self._choose()
        base = scratch_base(self.application)
        wanted = chosen.backup.sidecar.get("bytes")
        much = human_bytes(wanted) if isinstance(wanted, int) else "an unknown amount"
        record = {"state": "planned", "backup": self._backup(chosen), "scratch": str(base), "bytes": wanted}
        line = f"would restore {chosen.backup.name}, {much}, into {base} and remove it again; nothing was written"
        return Outcome(changed=False, record=record, lines=(line,))

    def carry_out(self) -> Outcome:
        """The drill, its record, and the catalog's word of it."""
        started = self.ports.clock.now()
        try:
            self._rehearse()
        except (InterruptedBySignal, UsageError):
            raise
        except TradekeepError as error:
            self.findings.problem(str(error))
        record = self._record(started)
        write_record(self.application, record)
        if self.chosen is not None:
            remember(self.application, self.ports, self.chosen.backup, self.source, record["verdict"])
        return Outcome(
            changed=False, record=record, lines=drill_lines(record), status=status_of(str(record["verdict"]))
        )

    def _rehearse(self) -> None:
        ports, findings = self.ports, self.findings
        base = scratch_base(self.application)
        with findings.timed("find", ports.clock):
            self.chosen = chosen = self._choose()
            if chosen.note is not None:
                findings.note(chosen.note)
        with ExitStack() as stack:
            with findings.timed("verify", ports.clock):
                prove_checksum(chosen.backup, ports, findings)
                host_key = None if self.key_file else host_key_for(self.application, chosen.backup.path)
                keys = stack.enter_context(
                    keys_for(chosen.backup, self.key_file or host_key, self.passphrase_file, ports, findings)
                )
                size = size_up(self.application, chosen.backup, keys, ports)
            limit = self.application.profile.drill.maximum_bytes
            select = choose_part(self.application, size, limit)
            check_space(base, size.bytes if limit is None else min(size.bytes, limit), size.things)
            account = reader_account(self.application)
            own = self.application.profile.drill.scratch is not None
            place = stack.enter_context(scratch_place(base, account, chosen=own))
            ports.step("drill scratch")
            with findings.timed("unpack", ports.clock):
                self.unpacked = unpacked = unpack_into(
                    self.application, place, chosen.backup, keys, size, select, ports, account
                )
            ports.step("drill unpacked")
            with findings.timed("check", ports.clock):
                check_unpacked(self.application, unpacked, ports, findings)
            ports.step("drill checked")
            self._compare(chosen, size, unpacked, place)

    def _choose(self) -> Chosen:
        keys = Keys(self.application, self.ports, passphrase_file=self.passphrase_file, keyring=False)
        given = None if self.key_file else keys
        return choose_backup(self.application, self.ports, self.reference, self.source, given)

    def _compare(self, chosen: Chosen, size: Size, unpacked: Unpacked, place: Path) -> None:
        findings = self.findings
        if unpacked.foreign:
            findings.note("it has no manifest: what should be in it is not known, so only weaker checks were possible")
        else:
            _compare_sidecar(chosen, unpacked, findings)
            refuse_other_maker(self.application, chosen.backup, unpacked.report.header)
            note_other_maker(self.application, chosen.backup, unpacked.report.header, findings.note)
        if not unpacked.whole:
            findings.note(
                f"only {human_bytes(unpacked.bytes)} of {human_bytes(size.bytes)} were unpacked, as maximum_bytes says"
            )
        with findings.timed("compare", self.ports.clock):
            self.point = look_at_live(self.application, chosen, unpacked, place, self.ports, findings)

    def _record(self, started: datetime) -> dict[str, Any]:
        findings, settings = self.findings, self.application.profile.drill
        findings.close()
        rto = self._rto()
        met = rto is not None and rto <= settings.rto_seconds
        rpo = self.point.as_dict(settings.rpo_seconds)
        verdict = "failed" if findings.problems else "passed" if met and rpo["met"] else "missed"
        unpacked = self.unpacked
        return {
            "version": VERSION,
            "application": self.application.name,
            "host": os.uname().nodename,
            "record": str(record_path(self.application, started)),
            "started": iso(started),
            "finished": iso(self.ports.clock.now()),
            "source": self.source,
            "backup": None if self.chosen is None else self._backup(self.chosen),
            "verdict": verdict,
            "weaker_checks": unpacked is not None and unpacked.foreign,
            "phases": findings.phases,
            "rto": {
                "seconds": rto,
                "target": settings.rto_seconds,
                "met": met,
                "scaled": unpacked is not None and not unpacked.whole,
            },
            "rpo": rpo,
            "drilled": {
                "files": sum(findings.opened.values()),
                "bytes": 0 if unpacked is None else unpacked.bytes,
                "of_bytes": None if unpacked is None else unpacked.report.bytes,
                "whole": unpacked is None or unpacked.whole,
            },
            "opened": findings.opened,
            "databases": findings.databases,
            "problems": findings.problems,
            "notes": findings.notes,
        }

    def _rto(self) -> Optional[float]:
        """Seconds from looking for the backup to data that is proven; of a part, as long as the whole would take."""
        phases, unpacked = self.findings.phases, self.unpacked
        if unpacked is None or "check" not in phases:
            return None
        scale = 1.0 if unpacked.whole else unpacked.report.bytes / max(1, unpacked.bytes)
        return round(phases["find"] + phases["verify"] + (phases["unpack"] + phases["check"]) * scale, 3)

    def _backup(self, chosen: Chosen) -> dict[str, Any]:
        backup = chosen.backup
        return {
            "name": backup.name,
            "path": str(backup.path),
            "moment": iso(backup.moment),
            "size": backup.size,
            "sha256": backup.sha256,
            "encrypted": backup.encrypted,
            "newest": chosen.newest,
        }


def _compare_sidecar(chosen: Chosen, unpacked: Unpacked, findings: Findings) -> None:
    sidecar, report = chosen.backup.sidecar, unpacked.report
    for key, actual in (("bytes", report.bytes), ("manifest_sha256", report.manifest_sha256)):
        if sidecar.get(key, actual) != actual:
            findings.problem(f"{chosen.backup.name}: its .json names another {key} than the archive has")
