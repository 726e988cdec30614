# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What can be said to ``tradekeep`` on a command line."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from .application import Tier
from .deploy_settings import CollisionPolicy
from .errors import UsageError

DESCRIPTION = "Keeps the data of trading bots: trees, consistent backups, proven restores."
EPILOG = """exit status:
  0  done, or nothing to do
  1  findings: a check failed, or something drifted
  2  wrong usage or configuration
  3  the operation failed and the data is as it was
  4  the operation failed and needs a person; the message says what to do
"""


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage as the engine's error, so that ``--json`` answers with an object for it too."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"see {self.prog} --help")


def build_parser(*, config_dir: str, version: str) -> argparse.ArgumentParser:
    """The whole command line; ``config_dir`` is where configurations are looked for."""
    parser = _Parser(
        prog="tradekeep",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(config=None, app=None, json=False, no_progress=False, config_dir=config_dir)
    parser.set_defaults(whole_help=parser.format_help)
    parser.add_argument("--version", action="version", version=f"tradekeep {version}")
    common = _common_options()
    _copy_options(common, parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for add in (*_KEEPING, *_MOVING):
        add(commands, common)
    return parser


def _common_options() -> argparse.ArgumentParser:
    """Options that may stand before the command and after it; SUPPRESS keeps the later from resetting the earlier."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    which = common.add_mutually_exclusive_group()
    which.add_argument("--config", metavar="FILE", help="configuration of the application")
    which.add_argument(
        "--app", metavar="NAME", help="name of the application; needed only where several are configured"
    )
    common.add_argument("--json", action="store_true", help="print one JSON object on standard output, nothing else")
    common.add_argument("--no-progress", action="store_true", help="no progress bar, even on a terminal")
    return common


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, found {text!r}")
    return int(text)


def _copy_options(common: argparse.ArgumentParser, parser: argparse.ArgumentParser) -> None:
    for action in common._actions:
        parser._add_action(action)


def _command(commands: Any, common: argparse.ArgumentParser, name: str, purpose: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, parents=[common], help=purpose, description=purpose, allow_abbrev=False
    )
    return parser


def _subcommand(command: argparse.ArgumentParser, common: argparse.ArgumentParser) -> Any:
    return command.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True, parser_class=_Parser)


def _dry_run(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; write nothing")


def _yes(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask on a terminal before live data is replaced")


def _host(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="NAME", help="take the backups that were made on the host of this name")


def _passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--passphrase-file", metavar="FILE", help="read the passphrase of the backup from this file")


def _config(commands: Any, common: argparse.ArgumentParser) -> None:
    config = _command(commands, common, "config", "check or show the configuration")
    subcommands = _subcommand(config, common)
    check = _command(subcommands, common, "check", "check the configuration and what it refers to on this host")
    check.add_argument(
        "--recovery-key", metavar="FILE", help="prove that this secret key decrypts backups; it is not kept"
    )
    show = _command(subcommands, common, "show", "print the configuration, or a built-in profile, as JSON")
    show.add_argument("profile", nargs="?", metavar="PROFILE", help="a built-in profile instead of what is configured")


def _tree(commands: Any, common: argparse.ArgumentParser) -> None:
    tree = _command(commands, common, "tree", "compare the data tree with the profile")
    tree.add_argument("--fix", action="store_true", help="create what is missing and mend owners and modes")
    tree.add_argument(
        "--take-over", action="store_true", help="with --fix: give to the owner what belongs to another account"
    )


def _list(commands: Any, common: argparse.ArgumentParser) -> None:
    listed = _command(commands, common, "list", "list the backups, and say what failed last; newest last on a terminal")
    listed.add_argument("--limit", type=_count, metavar="N", help="only the newest N")
    _host(listed)


def _backup(commands: Any, common: argparse.ArgumentParser) -> None:
    backup = _command(commands, common, "backup", "make a backup and prove it")
    backup.add_argument(
        "--tier", choices=[tier.value for tier in Tier], default=Tier.MANUAL.value, help="default: manual"
    )
    backup.add_argument(
        "--name", metavar="NAME", help="added to the file's name; it is not pruned until it is released"
    )
    backup.add_argument("--encrypt", action="store_true", default=None, help="encrypt it, or fail without a key")
    backup.add_argument(
        "--no-host-key", action="store_true", help="let people's keys alone open it, for an archive that goes elsewhere"
    )
    backup.add_argument("--output", metavar="DIR", help="write it there instead of the backup directory")
    backup.add_argument(
        "--allow-row-loss",
        action="store_true",
        help="accept that a database lost many of its rows since the last backup",
    )
    backup.add_argument(
        "--allow-loss",
        metavar="WORD",
        action="append",
        default=[],
        help="accept that a component (its name), a database (its path), a table (PATH:TABLE), or all holds far less "
        "than in the last backup, with filesystem that the data lies on another one, or with backups that the backup "
        "directory is a new and empty one; repeatable",
    )
    _dry_run(backup)


def _verify(commands: Any, common: argparse.ArgumentParser) -> None:
    verify = _command(commands, common, "verify", "check a backup against its checksum and its manifest")
    verify.add_argument(
        "backup", metavar="BACKUP", help="a name, a path, latest, or all (the one longest unverified first)"
    )
    verify.add_argument("--deep", action="store_true", help="also open every database, document and log")
    _host(verify)
    _passphrase(verify)


def _restore(commands: Any, common: argparse.ArgumentParser) -> None:
    restore = _command(commands, common, "restore", "put a backup in the place of the live data, or somewhere else")
    restore.add_argument("backup", metavar="BACKUP", help="a name, a path, or latest")
    restore.add_argument(
        "--component",
        metavar="NAME",
        action="append",
        default=[],
        dest="components",
        help="only this component; repeatable",
    )
    restore.add_argument(
        "--path",
        metavar="GLOB",
        action="append",
        default=[],
        dest="paths",
        help="only paths that match (./NAME: at the root); repeatable",
    )
    restore.add_argument(
        "--to", metavar="DIR", help="restore into this directory; live data and services are left alone"
    )
    _host(restore)
    restore.add_argument("--key", metavar="FILE", help="secret key of a backup to a public one; it is not kept")
    restore.add_argument("--any-profile", action="store_true", help="take a backup of another profile")
    restore.add_argument(
        "--include-unmanaged", action="store_true", help="restore also what no component of the profile has"
    )
    restore.add_argument(
        "--strip",
        metavar="DIR",
        help="leave out these leading directories of an archive of another program, . for none",
    )
    restore.add_argument(
        "--into", metavar="DIR", help="an archive of another program was made in this directory of the root"
    )
    restore.add_argument("--accept-damage", action="store_true", help="restore a damaged database too, as it is")
    _passphrase(restore)
    _yes(restore)
    restore.add_argument(
        "--force",
        action="store_true",
        help="go on although a process that no service owns writes the data, and although a health check fails",
    )
    _dry_run(restore)


def _recover(commands: Any, common: argparse.ArgumentParser) -> None:
    recover = _command(commands, common, "recover", "finish or undo what a crash left behind")
    recover.add_argument("--wait", action="store_true", help="however long another run takes")
    recover.add_argument(
        "--force", action="store_true", help="go on although a process that no service owns writes the data"
    )
    how = recover.add_mutually_exclusive_group()
    _dry_run(how)
    how.add_argument(
        "--boot", action="store_true", help="only make the data whole, start nothing; for tradekeep-guard-APP.service"
    )
    how.add_argument(
        "--missed",
        action="store_true",
        help="only start the backups and checks again that a crash cut off; for tradekeep-missed-APP.service",
    )


def _prune(commands: Any, common: argparse.ArgumentParser) -> None:
    prune = _command(commands, common, "prune", "remove the backups that the retention rules do not keep")
    prune.add_argument("--trust-clock", action="store_true", help="the clock is right, though it seems to have jumped")
    _host(prune)
    _dry_run(prune)


def _release(commands: Any, common: argparse.ArgumentParser) -> None:
    release = _command(commands, common, "release", "let the retention rules decide about a named backup")
    release.add_argument("backup", metavar="BACKUP", help="a name, a path, or latest")
    _dry_run(release)


def _drill(commands: Any, common: argparse.ArgumentParser) -> None:
    drill = _command(commands, common, "drill", "restore a backup for practice, aside, and measure it")
    drill.add_argument(
        "backup", nargs="?", default="latest", metavar="BACKUP", help="a name or a path (default: latest)"
    )
    drill.add_argument(
        "--from",
        dest="source",
        metavar="STORAGE",
        default="local",
        help="where to take it from: local, or a directory that holds copies (default: local)",
    )
    _host(drill)
    drill.add_argument("--key", metavar="FILE", help="secret key of a backup to a public one; it is not kept")
    _passphrase(drill)
    drill.add_argument("--log", action="store_true", help="show all drills so far, newest first")
    _dry_run(drill)


def _db(commands: Any, common: argparse.ArgumentParser) -> None:
    database = _command(commands, common, "db", "check or optimize the live SQLite databases")
    subcommands = _subcommand(database, common)
    check = _command(subcommands, common, "check", "check databases; nothing is written")
    check.add_argument("paths", nargs="*", metavar="PATH", help="default: every database of the application")
    check.add_argument("--full", action="store_true", help="full integrity check instead of the quick one")
    check.add_argument("--foreign-keys", action="store_true", help="also look for rows whose parents are missing")
    optimize = _command(subcommands, common, "optimize", "ANALYZE and VACUUM databases")
    optimize.add_argument("paths", nargs="*", metavar="PATH", help="default: every database of the application")
    _dry_run(optimize)


def _deploy(commands: Any, common: argparse.ArgumentParser) -> None:
    deploy = _command(commands, common, "deploy", "bring the code to a commit and prove that the data was left alone")
    deploy.add_argument("ref", nargs="?", metavar="REF", help="a branch, a tag or a commit")
    deploy.add_argument("--rollback", action="store_true", help="go back to the commit before the one that is deployed")
    deploy.add_argument("--log", action="store_true", help="show all deploys so far, newest first")
    deploy.add_argument("--repository", metavar="URL", help="fetch from there instead of what the profile says")
    deploy.add_argument(
        "--on-collision",
        choices=[policy.value for policy in CollisionPolicy],
        help="where upstream wants the place of live data (default: as the profile says)",
    )
    deploy.add_argument(
        "--adopt",
        action="store_true",
        help="replace and keep aside what no deploy put in the place of code or of the virtual environment",
    )
    deploy.add_argument("--no-backup", action="store_true", help="make no backup before")
    deploy.add_argument("--expect", metavar="COMMIT", help="with --rollback: only if this commit is deployed")
    deploy.add_argument(
        "--force", action="store_true", help="go on although a process that no service owns writes the data"
    )
    deploy.add_argument("--request", metavar="FILE", help=argparse.SUPPRESS)
    deploy.add_argument("--by", metavar="WHO", help="who asked for it, for the record")
    _dry_run(deploy)


def _migrate(commands: Any, common: argparse.ArgumentParser) -> None:
    migrate = _command(commands, common, "migrate", "put data from elsewhere in the place of this host's")
    migrate.add_argument(
        "source", nargs="?", metavar="SOURCE", help="a directory, an unpacked old backup, or an archive"
    )
    migrate.add_argument(
        "--from",
        metavar="USER@HOST",
        dest="server",
        help="another server, by ssh: it is stopped there, fenced, and started here",
    )
    _of_another_server(migrate)
    migrate.add_argument(
        "--force",
        action="store_true",
        help="replace and remove live data that differs from the source's, after a verified backup of it",
    )
    migrate.add_argument(
        "--start", action="store_true", help="afterwards start everything that is installed, not only what ran before"
    )
    migrate.add_argument("--by", metavar="WHO", help="who asked for it, for the record")
    migrate.add_argument("--key", metavar="FILE", help="secret key of an archive to a public one; it is not kept")
    _passphrase(migrate)
    _yes(migrate)
    _dry_run(migrate)


def _of_another_server(migrate: argparse.ArgumentParser) -> None:
    migrate.add_argument("--port", type=int, metavar="PORT", help="with --from: of ssh there")
    migrate.add_argument("--identity", metavar="FILE", help="with --from: the private key")
    migrate.add_argument("--known-hosts", metavar="FILE", help="with --from: the host keys of the source")
    migrate.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    migrate.add_argument("--survey", action="store_true", help=argparse.SUPPRESS)
    migrate.add_argument("--request", metavar="FILE", help=argparse.SUPPRESS)


def _fence(commands: Any, common: argparse.ArgumentParser) -> None:
    fence = _command(commands, common, "fence", "stop the application and keep it from starting on this host")
    fence.add_argument("--reason", metavar="TEXT", default="", help="why, for whoever finds it fenced")
    _dry_run(fence)


def _unfence(commands: Any, common: argparse.ArgumentParser) -> None:
    unfence = _command(commands, common, "unfence", "take the fence down and start what ran before it")
    unfence.add_argument("--no-start", action="store_true", help="start nothing")
    _dry_run(unfence)


_KEEPING = (_config, _tree, _list, _backup, _verify, _restore, _recover, _prune, _release, _drill, _db)
_MOVING = (_deploy, _migrate, _fence, _unfence)
