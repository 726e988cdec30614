# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Deploying code where data lives: plan, carry out, prove, record."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from ...application import Application
from ...deploy_settings import BackupFirst
from ...errors import ExitStatus, InterruptedBySignal, NeedsPersonError, TradekeepError
from ...git.mirror import Mirror
from ...host.filesystem.identity import acting_as
from ...ports import Ports
from ...storage.choice import said_of_the_future
from ...transaction.exchange import refuse_pending
from ...transaction.fence_file import refuse_fenced
from ...transaction.lock import application_lock
from ..controller import services_of
from ..leftovers import sweep_state
from ..outcome import Outcome
from ..still_writing import FORCE, refuse_unmanaged_writers
from ..text import counted, first_lines, stopped_for, table
from .carry_out import Carried, DeployRun, deploy_hooks, new_identifier
from .dependencies import Environments
from .hooks import Hooks
from .records import RUNNING, DeployRecords, is_of_future
from .rehearsal import rehearse
from .releases import Releases
from .request import DeployRequest, requested_application
from .survey import Survey, account_for, look_around, mirror_of, peeking

WAIT_SECONDS = 3600.0
STANDS = "deployed"
_STOPPING = ("before_stop", "after_stop")


def deploy(application: Application, ports: Ports, request: DeployRequest, *, dry_run: bool = False) -> Outcome:
    """Bring the code to a commit, or back to the one before, and prove that the data was left alone.

    Refused collisions give status FAILED with nothing changed. dry_run finds the same and writes nothing.
    """
    application = requested_application(application, request)
    # What lies in the checkout and the root is the bot's to exchange at any moment: root's rights do not count there.
    with acting_as(account_for(application)):
        return _as_owner(application, ports, request, dry_run=dry_run)


def _as_owner(application: Application, ports: Ports, request: DeployRequest, *, dry_run: bool) -> Outcome:
    account = account_for(application)
    state_dir = Path(application.application_state_dir)
    if dry_run:
        refuse_pending(state_dir)
        refuse_fenced(state_dir, "nothing is deployed")
        with peeking(application, account, ports) as mirror:
            survey = look_around(application, request, mirror, account, ports)
            if not survey.unchanged:
                survey.obstacles.extend(rehearse(survey, mirror, ports))
            if not survey.obstacles and not survey.plan.refused:
                _refuse_unmanaged(application, survey, request, ports, dry_run=True)
            return _planned(survey, request)
    records = DeployRecords(application)
    records.prepare()
    lock = application_lock(
        state_dir, operation="deploy", clock=ports.clock, wait_seconds=WAIT_SECONDS, note=ports.progress.mention
    )
    with lock:
        refuse_pending(state_dir)
        refuse_fenced(state_dir, "nothing is deployed")
        sweep_state(application)
        records.close_cut_off()
        mirror = mirror_of(application, account, ports)
        mirror.ensure()
        return _deploy(application, request, mirror, ports)


def deploy_log(application: Application, ports: Ports) -> Outcome:
    """The records of all deploys, newest first, and after all others those that are dated in the future."""
    now = ports.clock.now()
    found = DeployRecords(application).log(now)
    ahead = sum(is_of_future(item, now) for item in found)
    notes = [f"note: {said_of_the_future(counted(ahead, 'record'), now)}"] if ahead else []
    rows = [
        (
            str(item.get("at", ""))[:19].replace("T", " "),
            str(item.get("state", "")),
            str(item.get("old_commit") or "-")[:12],
            str(item.get("new_commit") or "-")[:12],
            f"{item.get('downtime_seconds', 0):.2f} s",
            str((item.get("proof") or {}).get("verdict", "-")),
            str(item.get("by") or "-"),
            _why(item),
        )
        for item in found
    ]
    header = ("at (UTC)", "state", "old", "new", "downtime", "data", "by", "why")

    def lines(width: Optional[int] = None) -> tuple[str, ...]:
        if not rows:
            return ("nothing was deployed yet",)
        listed = table(header, rows, width=width, giving_way=((7, 24), (6, 8)))
        return (*(listed if width is None else first_lines(listed)), *notes)

    return Outcome(changed=False, record={"deploys": found}, lines=lines(), fitted=lines)


def _why(record: Mapping[str, Any]) -> str:
    """Why a deploy failed, or what it was made for: the ref that was asked for, and the latest of its commits."""
    if record.get("error"):
        return str(record["error"])
    refused = [item for item in record.get("collisions") or () if item.get("outcome") == "refused"]
    if record.get("state") == "refused" and (refused or record.get("obstacles")):
        wanted = [f"upstream wants {counted(len(refused), 'path')}, such as {item.get('path')}" for item in refused[:1]]
        return "; ".join([*wanted, *record.get("obstacles", ())])
    asked = "rollback" if record.get("rollback") else str(record.get("ref") or "-")
    commits = record.get("commits") or ()
    return asked if not commits or record.get("rollback") else f"{asked}: {commits[0].get('subject', '')}"


def _deploy(application: Application, request: DeployRequest, mirror: Mirror, ports: Ports) -> Outcome:
    account = account_for(application)
    carried = Carried(new_identifier(), ports.clock.now())
    hooks = deploy_hooks(application, account, carried, ports)
    begun = ports.clock.monotonic()
    if not request.rollback:
        hooks.run("before_fetch")
    survey = look_around(application, request, mirror, account, ports)
    if not request.rollback:
        hooks.run("after_fetch", old_commit=survey.old.commit, new_commit=survey.target.commit)
    if survey.refused:
        return _refused(survey, request, carried)
    if survey.unchanged:
        return _unchanged(survey, request)
    _refuse_unmanaged(application, survey, request, ports)
    _write(survey, request, carried, RUNNING)
    try:
        DeployRun(survey, mirror, hooks, carried, ports, force=request.force).carry_out()
    except TradekeepError as error:
        record = _failed(survey, request, carried, hooks, error)
        if isinstance(error, InterruptedBySignal):
            raise
        lines = tuple(_failure_lines(survey, record, carried, error))
        return Outcome(changed=record["state"] == STANDS, record=record, lines=lines, status=error.exit_status)
    except BaseException as error:
        _failed(survey, request, carried, hooks, error)
        raise
    carried.times["total"] = round(ports.clock.monotonic() - begun, 3)
    _tidy(survey, mirror, ports, carried)
    state = "rolled_back" if request.rollback else "waiting" if survey.waits_for else "deployed"
    record, status = _written(survey, request, carried, state)
    before = {"commit": survey.old.commit}
    after = {"commit": survey.target.commit}
    lines = tuple(_done_lines(survey, carried, record, request))
    return Outcome(changed=True, record=record, lines=lines, before=before, after=after, status=status)


def _refuse_unmanaged(
    application: Application, survey: Survey, request: DeployRequest, ports: Ports, *, dry_run: bool = False
) -> None:
    """What a stop would not end is found before it, unless hooks of the application's see to that."""
    if survey.plan.changes and not any(hook.at in _STOPPING for hook in application.profile.deploy.hooks):
        services = services_of(application, ports)
        refuse_unmanaged_writers(application, ports, services, force=request.force, dry_run=dry_run, way_out=FORCE)


def _failed(
    survey: Survey, request: DeployRequest, carried: Carried, hooks: Hooks, error: BaseException
) -> dict[str, Any]:
    """The record of a deploy that did not come to its end."""
    state = _state_after(survey, carried, error)
    if state != STANDS:
        try:
            hooks.run("after_rollback", old_commit=survey.old.commit, new_commit=survey.target.commit)
        except TradekeepError as failure:
            carried.notes.append(str(failure))
        carried.hooks = [result.as_dict() for result in hooks.results]
    # What became of the deploy is in the error; that its record does not fit must not take its place.
    with contextlib.suppress(TradekeepError, OSError):
        return _write(survey, request, carried, state, error=str(error))
    return {**_whole_record(survey, request, carried, state, str(error)), "record": None}


def _state_after(survey: Survey, carried: Carried, error: BaseException) -> str:
    """Where a failure has left the code. A deploy that stands can still fail to clear up behind itself."""
    with contextlib.suppress(TradekeepError):
        standing = DeployRecords(survey.application).standing()
        if standing is not None and standing.identifier == carried.identifier:
            return STANDS
    return "rollback_failed" if isinstance(error, NeedsPersonError) else "undone"


def _failure_lines(survey: Survey, record: dict[str, Any], carried: Carried, error: TradekeepError) -> Iterator[str]:
    yield str(error)
    yield from (f"note: {note}" for note in carried.notes)
    if record["state"] == "undone":
        yield _in_place_again(survey)
    yield f"record: {record['record']}"


def _in_place_again(survey: Survey) -> str:
    if survey.old.commit is not None:
        return f"the old code is in place again: {survey.old.commit[:12]}"
    return (
        "the code that was here is in place again" if survey.had_code else "there was no code before, and now neither"
    )


def _written(survey: Survey, request: DeployRequest, carried: Carried, state: str) -> tuple[dict[str, Any], ExitStatus]:
    """The record of a deploy that stands; where it cannot be kept, that is a finding and undoes nothing."""
    try:
        return _write(survey, request, carried, state), ExitStatus.DONE
    except TradekeepError as error:
        carried.notes.append(f"the record of this deploy could not be kept: {error}")
        return {**_whole_record(survey, request, carried, state), "record": None}, ExitStatus.FINDINGS


def _latest(records: Sequence[dict[str, Any]], ports: Ports, count: int) -> list[dict[str, Any]]:
    """So many of the newest records, and beside them those of a clock that was wrong, which take no place of theirs."""
    now = ports.clock.now()
    ahead = [item for item in records if is_of_future(item, now)]
    return [item for item in records if item not in ahead][:count] + ahead


def _tidy(survey: Survey, mirror: Mirror, ports: Ports, carried: Carried) -> None:
    """Old releases, environments, backups and commits. None of it can fail a deploy that stands."""
    deploy = survey.application.profile.deploy
    records = DeployRecords(survey.application)
    try:
        if deploy.backup_first is not BackupFirst.NONE:
            from .backup_first import forget_old_backups

            forget_old_backups(survey.application, ports, deploy.keep_releases)
        recent = [
            item
            for item in records.log(ports.clock.now())
            if item.get("state") in ("deployed", "rolled_back", "waiting")
        ]
        recent = _latest(recent, ports, deploy.keep_releases)
        if isinstance(survey.layout, Releases):
            carried.notes.extend(survey.layout.tidy(deploy.keep_releases))
        if deploy.dependencies is not None and survey.layout.adopts:
            environments = Environments(
                deploy.dependencies, checkout=Path(survey.application.checkout), account=survey.account, ports=ports
            )
            environments.prune([str(item["environment"]) for item in recent if item.get("environment")])
        wanted = {item.get(key) for item in recent for key in ("old_commit", "new_commit")}
        wanted |= {survey.target.commit, *(carried.deployed.history if carried.deployed else ())}
        for commit in mirror.kept():
            if commit not in wanted:
                mirror.drop(commit)
        mirror.tidy()
    except TradekeepError as error:
        carried.notes.append(str(error))


def _record(survey: Survey, request: DeployRequest, state: str) -> dict[str, Any]:
    """What is known before anything is done."""
    plan = survey.plan
    return {
        "state": state,
        "application": survey.application.name,
        "layout": survey.application.profile.deploy.layout.value,
        "ref": request.ref or survey.target.commit,
        "old_commit": survey.old.commit,
        "new_commit": survey.target.commit,
        "by": request.by,
        "rollback": request.rollback,
        "changes": survey.changes(),
        "commits": [{"commit": line.commit, "subject": line.subject} for line in survey.commits],
        "collisions": [
            {
                "path": item.path,
                "kind": item.kind,
                "what": item.what,
                "policy": survey.application.profile.deploy.on_collision.value,
                "outcome": "kept" if item.kept else "refused",
            }
            for item in plan.collisions
        ],
        "notes": [*survey.notes, *plan.notes],
        "obstacles": [str(error) for error in survey.obstacles],
        "missing": list(survey.missing),
    }


def _write(
    survey: Survey, request: DeployRequest, carried: Carried, state: str, error: Optional[str] = None
) -> dict[str, Any]:
    record = _whole_record(survey, request, carried, state, error)
    path = DeployRecords(survey.application).write(carried.moment, carried.identifier, record)
    return {**record, "record": str(path)}


def _whole_record(
    survey: Survey, request: DeployRequest, carried: Carried, state: str, error: Optional[str] = None
) -> dict[str, Any]:
    record = {
        **_record(survey, request, state),
        "id": carried.identifier,
        "at": carried.moment.isoformat(),
        "downtime_seconds": carried.downtime,
        "seconds": carried.times,
        "proof": None if carried.proof is None else carried.proof.as_dict(),
        "health": carried.health,
        "hooks": carried.hooks,
        "backup": carried.backup,
        "rescued": carried.rescued,
        "quarantined": carried.quarantined,
        "set_aside": carried.set_aside,
        "started": list(carried.started),
        "release": None if carried.deployed is None else carried.deployed.release,
        "environment": None if carried.environment is None else carried.environment.key,
        "error": error,
    }
    record["notes"] = [*record["notes"], *carried.notes]
    return record


def _planned(survey: Survey, request: DeployRequest) -> Outcome:
    record = {**_record(survey, request, "unchanged" if survey.unchanged else "planned"), "record": None}
    if survey.refused:
        record["state"] = "refused"

    def fitted(_width: int) -> Sequence[str]:
        return (*_plan_lines(survey, first_lines), "nothing was written")

    lines = [*_plan_lines(survey), "nothing was written"]
    return Outcome(
        changed=not survey.unchanged and not survey.refused,
        record=record,
        lines=tuple(lines),
        fitted=fitted,
        before={"commit": survey.old.commit, **{change.path: "deployed" for change in survey.plan.changes}},
        after={
            "commit": survey.target.commit,
            **{change.path: change.action.value for change in survey.plan.changes},
        },
        status=_status(survey),
    )


def _refused(survey: Survey, request: DeployRequest, carried: Carried) -> Outcome:
    record = _write(survey, request, carried, "refused")
    return Outcome(changed=False, record=record, lines=tuple(_plan_lines(survey)), status=_status(survey))


def _status(survey: Survey) -> ExitStatus:
    """Of a plan: as the deploy itself would fail."""
    if survey.plan.refused:
        return ExitStatus.FAILED
    return survey.obstacles[0].exit_status if survey.obstacles else ExitStatus.DONE


def _unchanged(survey: Survey, request: DeployRequest) -> Outcome:
    lines = [*_missing_lines(survey), f"{survey.target.commit[:12]} is deployed already; nothing was done"]
    record = {**_record(survey, request, "unchanged"), "record": None, "downtime_seconds": 0.0}
    return Outcome(changed=False, record=record, lines=tuple(lines))


def _plan_lines(survey: Survey, shown: Callable[[Sequence[str]], Sequence[str]] = tuple) -> Iterator[str]:
    refused = survey.refused
    # First, as a play shows the first lines alone; what would change is of no interest then.
    yield from _refusals(survey)
    yield from shown([f"collision: {item.describe()}" for item in survey.plan.collisions])
    yield from (f"note: {note}" for note in (*survey.notes, *survey.plan.notes))
    yield from shown([f"{line.commit[:12]} {line.subject}" for line in survey.commits])
    if not refused:
        yield from shown([change.describe() for change in survey.plan.changes])
    yield from _missing_lines(survey)
    if not refused:
        old = (survey.old.commit or "nothing")[:12]
        yield f"{counted(len(survey.plan.changes), 'change')} from {old} to {_named(survey)}"


def _refusals(survey: Survey) -> Iterator[str]:
    code = [item for item in survey.plan.refused if item.code]
    data = len(survey.plan.refused) - len(code)
    if code:
        yield (
            f"refused: code here, which no deploy put here, is not as upstream has it ({counted(len(code), 'file')}); "
            "nothing was changed (with --adopt (deploy_adopt=true) upstream's takes the place, and what is here is "
            "kept aside; what is data belongs into deploy.preserve)"
        )
    if data:
        yield (
            f"refused: upstream wants {counted(data, 'path')} that live data has; nothing was changed "
            "(untrack them upstream, or choose --on-collision keep_live)"
        )
    yield from (f"refused: {error}" for error in survey.obstacles)


def _named(survey: Survey) -> str:
    """A commit as people read it, with the branch or tag that it was found by."""
    commit, ref = survey.target.commit, survey.target.ref
    name = ref[len("refs/heads/") :] if ref.startswith("refs/heads/") else ref.replace("refs/tags/", "", 1)
    return commit[:12] if ref == commit else f"{commit[:12]} ({name})"


def _missing_lines(survey: Survey) -> Iterator[str]:
    for path in survey.missing:
        yield f"missing: {path} (mode 0600, owner {survey.account.name}); services stay down until it is there"


def _done_lines(survey: Survey, carried: Carried, record: dict[str, Any], request: DeployRequest) -> Iterator[str]:
    yield from (f"note: {note}" for note in record["notes"])
    yield from (f"collision: {item.describe()}" for item in survey.plan.collisions)
    yield from _missing_lines(survey)
    if carried.backup:
        yield f"backed up before: {carried.backup}"
    for what in ("differences", "staged"):
        if carried.rescued.get(what):
            yield f"kept aside: {carried.rescued[what]}"
    if carried.quarantined:
        place = DeployRecords(survey.application).quarantine(carried.moment, carried.identifier)
        yield f"kept aside {counted(len(carried.quarantined), 'file')} that no deploy had put here like this:"
        yield from first_lines([f"  {place}/{path}" for path in carried.quarantined], where="see the record")
    yield from (f"kept aside: {place} (remove it when nothing needs it any more)" for place in carried.set_aside)
    if carried.proof is not None:
        files = sum(counts["files"] for counts in carried.proof.components.values())
        written = sum(counts["written"] for counts in carried.proof.components.values())
        yield f"proof: {counted(files, 'file')} of data, none damaged, {written} written by the bot meanwhile"
    verb = "rolled back to" if request.rollback else "deployed"
    old = (survey.old.commit or "nothing")[:12]
    yield (
        f"{verb} {_named(survey)} over {old}: {counted(len(survey.plan.changes), 'change')}; "
        f"{stopped_for(carried.stopped, carried.downtime)}"
    )
    yield f"record: {record['record']}"
