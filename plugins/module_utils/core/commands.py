# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Each command of ``tradekeep``, as one call of the operation behind it.

An operation is imported by its command alone: all of them together take longer to load than most commands to run.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Callable

from .application import Application, CheckLevel
from .configuration import configured_names, load_application
from .errors import TradekeepError, UsageError
from .host.account import asker
from .operations.outcome import Outcome
from .ports import Ports

_Command = Callable[[argparse.Namespace, Application, Ports], Outcome]


def carry_out(arguments: argparse.Namespace, ports: Ports) -> Outcome:
    """Carry out a parsed command line."""
    name = arguments.command
    if name is None:
        return _state(arguments, ports)
    if name == "config" and arguments.subcommand == "show" and arguments.profile:
        from .operations.configured import show_profile

        return show_profile(arguments.profile)
    if name in ("config", "db"):
        name = f"{name} {arguments.subcommand}"
    application = load_application(config_file=arguments.config, app=arguments.app, config_dir=arguments.config_dir)
    if getattr(arguments, "host", None):
        application = replace(application, backups_of=arguments.host)
    return _COMMANDS[name](arguments, application, ports)


def _state(arguments: argparse.Namespace, ports: Ports) -> Outcome:
    from .operations.state import show_all, show_state

    if arguments.config or arguments.app:
        chosen = load_application(config_file=arguments.config, app=arguments.app, config_dir=arguments.config_dir)
        return show_state(chosen, ports)
    if not configured_names(arguments.config_dir):
        return Outcome(changed=False, record={"applications": []}, lines=tuple(arguments.whole_help().splitlines()))
    return show_all(ports, arguments.config_dir)


def _config_check(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.configured import check_configuration

    return check_configuration(application, ports, recovery_key=arguments.recovery_key)


def _config_show(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.configured import show_configuration

    return show_configuration(application)


def _tree(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.tree import tree

    return tree(application, ports, fix=arguments.fix, take_over=arguments.take_over)


def _list(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.listing import list_backups

    return list_backups(application, ports, limit=arguments.limit)


def _backup(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.backup import backup
    from .operations.runs import backup_job, recorded

    def work() -> Outcome:
        return backup(
            application,
            ports,
            tier=arguments.tier,
            name=arguments.name,
            encrypt=arguments.encrypt,
            output=arguments.output,
            allow_row_loss=arguments.allow_row_loss,
            host_key=not arguments.no_host_key,
            allow_loss=tuple(arguments.allow_loss),
            dry_run=arguments.dry_run,
        )

    if arguments.dry_run or arguments.output:
        return work()
    return recorded(application, ports, backup_job(arguments.tier), work)


def _verify(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.runs import recorded
    from .operations.verify import verify

    def work() -> Outcome:
        return verify(
            application,
            ports,
            reference=arguments.backup,
            deep=arguments.deep,
            passphrase_file=arguments.passphrase_file,
        )

    return recorded(application, ports, "verify", work) if arguments.backup == "all" else work()


def _restore(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.restore import restore

    if not arguments.to and not arguments.dry_run:
        _confirm_restore(arguments, application, ports)
    return restore(
        application,
        ports,
        reference=arguments.backup,
        components=tuple(arguments.components),
        paths=tuple(arguments.paths),
        to=arguments.to,
        passphrase_file=arguments.passphrase_file,
        key_file=arguments.key,
        dry_run=arguments.dry_run,
        force=arguments.force,
        any_profile=arguments.any_profile,
        accept_damage=arguments.accept_damage,
        include_unmanaged=arguments.include_unmanaged,
        strip=arguments.strip,
        into=arguments.into,
    )


def _confirm_restore(arguments: argparse.Namespace, application: Application, ports: Ports) -> None:
    """Somebody who looks for ``restore --to`` must not find out by what is gone."""
    from .operations.state import age_in_words
    from .storage.local import LocalCatalog

    backup = LocalCatalog(application, ports.clock, note=ports.progress.note).find(arguments.backup)
    part = " in part" if arguments.components or arguments.paths else ""
    _confirm(
        arguments,
        f"This stops what runs of {application.name} and replaces its live data in {application.root}{part} by "
        f"{backup.path.name} ({age_in_words(backup.moment, ports.clock.now())}). Go on?",
    )


def _confirm(arguments: argparse.Namespace, question: str) -> None:
    """Ask whoever sits at a terminal; elsewhere, and with --yes, go on."""
    if not arguments.yes and arguments.ask(question) is False:
        raise TradekeepError("nothing was done, as nobody said yes", hint="--dry-run shows what it would do")


def _recover(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.recover import make_whole_at_boot, recover
    from .operations.runs import make_up_for

    if arguments.boot:
        return make_whole_at_boot(application, ports)
    if arguments.missed:
        return make_up_for(application, ports)
    wait_seconds = float("inf") if arguments.wait else 600.0
    return recover(application, ports, dry_run=arguments.dry_run, wait_seconds=wait_seconds, force=arguments.force)


def _prune(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.prune import prune
    from .operations.runs import recorded

    def work() -> Outcome:
        return prune(application, ports, dry_run=arguments.dry_run, trust_clock=arguments.trust_clock)

    return work() if arguments.dry_run else recorded(application, ports, "prune", work)


def _release(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.release import release

    return release(application, ports, reference=arguments.backup, dry_run=arguments.dry_run)


def _refuse_beside_log(more: object) -> None:
    """Raises UsageError where something else was asked for beside the log."""
    if more:
        raise UsageError("--log shows what was done, and does nothing", hint="leave out --log or the rest")


def _drill(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.drills.drill import drill
    from .operations.drills.record import drill_log
    from .operations.runs import recorded

    def work() -> Outcome:
        return drill(
            application,
            ports,
            reference=arguments.backup,
            source=arguments.source,
            key_file=arguments.key,
            passphrase_file=arguments.passphrase_file,
            dry_run=arguments.dry_run,
        )

    if arguments.log:
        _refuse_beside_log(arguments.backup != "latest" or arguments.dry_run)
        return drill_log(application, ports)
    return work() if arguments.dry_run else recorded(application, ports, "drill", work)


def _db_check(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.databases import check_databases

    return check_databases(
        application,
        ports,
        paths=tuple(arguments.paths),
        level=CheckLevel.FULL if arguments.full else CheckLevel.QUICK,
        foreign_keys=arguments.foreign_keys,
    )


def _db_optimize(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.databases import optimize_databases

    return optimize_databases(application, ports, paths=tuple(arguments.paths), dry_run=arguments.dry_run)


def _deploy(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.deploy.attended import attended_deploy, carry_out_request
    from .operations.deploy.deploy import deploy_log
    from .operations.deploy.request import DeployRequest

    if arguments.log:
        _refuse_beside_log(arguments.ref or arguments.rollback or arguments.dry_run)
        return deploy_log(application, ports)
    if arguments.request:
        return carry_out_request(application, ports, Path(arguments.request))
    request = DeployRequest(
        ref=arguments.ref,
        rollback=arguments.rollback,
        repository=arguments.repository,
        on_collision=arguments.on_collision,
        backup_first="none" if arguments.no_backup else None,
        expected=arguments.expect,
        adopt=arguments.adopt,
        by=arguments.by or asker(),
        force=arguments.force,
    )
    return attended_deploy(application, ports, request, dry_run=arguments.dry_run)


def _migrate(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    if arguments.serve or arguments.survey or arguments.request or arguments.server:
        return _hand_over(arguments, application, ports)
    from .operations.migrate.migrate import migrate

    if not arguments.source:
        raise UsageError("name a source, or a server with --from", hint="see tradekeep migrate --help")
    _confirm_migration(arguments, application, arguments.source)
    return migrate(
        application,
        ports,
        source=arguments.source,
        force=arguments.force,
        start=arguments.start,
        dry_run=arguments.dry_run,
        passphrase_file=arguments.passphrase_file,
        key_file=arguments.key,
        by=arguments.by or asker(),
    )


def _confirm_migration(arguments: argparse.Namespace, application: Application, source: str) -> None:
    if arguments.force and not arguments.dry_run:
        _confirm(
            arguments,
            f"This stops what runs of {application.name}, and replaces and removes live data in {application.root} "
            f"that {source} does not have, after a backup of it. Go on?",
        )


def _hand_over(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.handover.attended import attended_takeover, carry_out_request
    from .operations.handover.link import Link
    from .operations.handover.served import serve_on_standard_streams, survey

    if arguments.serve:
        return serve_on_standard_streams(application, ports)
    if arguments.survey:
        return survey(application, ports)
    if arguments.request:
        return carry_out_request(application, ports, Path(arguments.request))
    if arguments.source or arguments.start or arguments.passphrase_file:
        raise UsageError("--from goes with neither a SOURCE nor --start nor a passphrase", path=arguments.server)
    link = Link(
        arguments.server,
        arguments.server,
        arguments.port,
        arguments.identity,
        arguments.known_hosts,
        f"tradekeep --app {application.name} migrate --serve",
    )
    _confirm_migration(arguments, application, arguments.server)
    by = arguments.by or asker()
    return attended_takeover(application, ports, link, force=arguments.force, by=by, dry_run=arguments.dry_run)


def _fence(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.fence import fence

    return fence(application, ports, reason=arguments.reason, by=asker(), dry_run=arguments.dry_run)


def _unfence(arguments: argparse.Namespace, application: Application, ports: Ports) -> Outcome:
    from .operations.fence import unfence

    return unfence(application, ports, start=not arguments.no_start, dry_run=arguments.dry_run)


_COMMANDS: dict[str, _Command] = {
    "config check": _config_check,
    "config show": _config_show,
    "tree": _tree,
    "list": _list,
    "backup": _backup,
    "verify": _verify,
    "restore": _restore,
    "recover": _recover,
    "prune": _prune,
    "release": _release,
    "drill": _drill,
    "db check": _db_check,
    "db optimize": _db_optimize,
    "deploy": _deploy,
    "migrate": _migrate,
    "fence": _fence,
    "unfence": _unfence,
}
