# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What an application keeps and where: the frozen model that every operation works on.

``profile.py`` parses and validates mappings into these; nothing else constructs them outside of tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, Optional, Protocol

from .deploy_settings import Deploy
from .drill_settings import Drill
from .migrate_settings import Migrate


class BotPath(PurePosixPath):
    """A place that the bot owns: at any moment it can put anything in the place of anything below.

    Work there is done with the owner's rights (host/filesystem/identity.py), or by descriptors that begin at a
    directory of root's (host/filesystem/beneath.py). tests/certify/paths.py refuses anything else.
    """


class OurPath(PurePosixPath):
    """A place that root alone can change: backups, state, configuration, programs."""


NEW_DIRECTORY_MODE = 0o750
"""What a directory is made with where the profile states no mode."""
NEW_FILE_MODE = 0o640
"""What a file is made with where the profile states no mode."""


class Tier(str, Enum):
    """The retention tier that a backup is made for."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    MANUAL = "manual"


class CheckLevel(str, Enum):
    """How thoroughly databases are checked when they are captured."""

    QUICK = "quick"
    FULL = "full"


class ServiceManager(str, Enum):
    """Who runs the application's processes."""

    NONE = "none"
    SYSTEMD = "systemd"
    SUPERVISOR = "supervisor"
    COMMAND = "command"


@dataclass(frozen=True)
class FileRule:
    """A class of files inside a component: the first rule whose pattern matches decides.

    pattern: glob relative to the application's root; ``*`` stays within one directory, ``**`` crosses them,
    a pattern without a slash matches the file's name in any directory of the component.
    """

    pattern: str
    kind: Optional[str] = None
    mode: Optional[int] = None
    owner: Optional[str] = None
    group: Optional[str] = None
    secret: Optional[bool] = None
    required: bool = False
    template: Optional[Any] = None
    """JSON document written once where the file does not exist (only for patterns that are plain paths)."""
    may_shrink: bool = False
    """Whether such files may lose what they hold, or go: the bot empties them."""


@dataclass(frozen=True)
class Component:
    """A part of what an application keeps.

    paths: files or directories relative to the root. directories: those that must exist, relative to the root too.
    exclude: globs (as FileRule.pattern) that are neither captured nor touched.
    directory_mode, file_mode: None where the profile states none; what is there then keeps the mode that it has.
    """

    name: str
    paths: tuple[str, ...]
    directories: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    files: tuple[FileRule, ...] = ()
    directory_mode: Optional[int] = None
    file_mode: Optional[int] = None
    owner: Optional[str] = None
    group: Optional[str] = None
    critical: bool = False
    secret: bool = False
    require_encryption: bool = False
    preserve: bool = True
    backup: bool = True
    may_shrink: bool = False
    """Whether a backup may hold far less of it than the one before."""
    follow_links: tuple[str, ...] = ()
    """Absolute directories: a symlink of the component that ends below one of them stands for what lies there."""
    description: str = ""

    @property
    def holds_secrets(self) -> bool:
        """Whether any of its files is a secret."""
        return self.secret or self.require_encryption or any(rule.secret for rule in self.files)


@dataclass(frozen=True)
class Services:
    """What must be stopped while data is exchanged, in the order in which it is stopped.

    units: systemd units, or supervisor programs (``all`` for every one), or what messages call that which commands
    start. supervisor_config: path of supervisord.conf.
    stay_up_seconds: how long they must keep running after a start before an operation is committed.
    start, stop, is_active, user and the timeouts behind it: the commands of the manager ``command``, and who runs them.
    stop_for_backup: whether they are stopped while a backup is captured, too.
    """

    manager: ServiceManager = ServiceManager.NONE
    units: tuple[str, ...] = ()
    supervisor_config: Optional[str] = None
    stay_up_seconds: float = 10.0
    stop_timeout_seconds: float = 90.0
    start: Optional[tuple[str, ...]] = None
    stop: Optional[tuple[str, ...]] = None
    is_active: Optional[tuple[str, ...]] = None
    user: Optional[str] = None
    start_timeout_seconds: Optional[float] = None
    is_active_timeout_seconds: Optional[float] = None
    stop_for_backup: bool = False


@dataclass(frozen=True)
class Schedule:
    """A timer: ``calendar`` is a systemd OnCalendar expression (systemd.time(7)).

    encrypt: None encrypts where there is a key. True fails without one, False makes plain archives although there is.
    """

    tier: Tier
    calendar: str
    encrypt: Optional[bool] = None
    jitter_seconds: int = 300


@dataclass(frozen=True)
class Retention:
    """What pruning keeps; None or 0 means that the rule keeps nothing. Named backups are pinned."""

    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    keep_last: int = 0
    within_days: int = 0


@dataclass(frozen=True)
class Encryption:
    """How archives are encrypted: to public keys (fingerprints or key files) or with a passphrase file, not both.

    host_key: beside the public keys of people there is one whose secret half the host has, so that it can restore and
    drill by itself.
    """

    recipients: tuple[str, ...] = ()
    passphrase_file: Optional[str] = None
    host_key: bool = True
    own_key: Optional[str] = None
    """Which of the recipients is the host's own; in no configuration."""

    @property
    def configured(self) -> bool:
        """Whether anything to encrypt with is configured."""
        return bool(self.recipients or self.passphrase_file)


@dataclass(frozen=True)
class Looked:
    """What was looked up. tracked: paths that are code. directories: virtual environments, left out as a whole."""

    tracked: frozenset[str] = frozenset()
    directories: frozenset[str] = frozenset()


class NotData(Protocol):
    """What is no data below a root although a component names the whole of it; paths are relative to the root."""

    @property
    def ours(self) -> frozenset[str]:
        """What is known beforehand, and left out with all in it: backups, state, releases."""

    def look(self) -> Looked:
        """What is there now, looked up once. Raises TradekeepError where it cannot be known."""


@dataclass(frozen=True)
class Profile:
    """What one kind of bot keeps, wherever it is installed."""

    name: str
    description: str = ""
    root: str = ""
    owner: str = ""
    group: str = ""
    home: Optional[str] = None
    archive_prefix: str = "backup"
    root_mode: Optional[int] = None
    components: tuple[Component, ...] = ()
    services: tuple[Services, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    retention: Retention = field(default_factory=Retention)
    compression: str = "gzip"
    check_level: CheckLevel = CheckLevel.QUICK
    full_check_tiers: tuple[Tier, ...] = (Tier.WEEKLY, Tier.MONTHLY)
    maximum_row_loss_percent: float = 50.0
    """A backup fails when a table lost more than this share of its rows since the last one."""
    maximum_file_loss_percent: float = 50.0
    maximum_byte_loss_percent: float = 80.0
    """It fails when a component that matters lost more than this share of its files, or of their bytes."""
    tables_may_shrink: tuple[str, ...] = ()
    """Databases, or ``database:table``, of which any number of rows may go; patterns as FileRule.pattern."""
    ignore_uncovered: tuple[str, ...] = ()
    """What may lie below the root without belonging to a component; patterns as FileRule.pattern."""
    deploy: Deploy = field(default_factory=Deploy)
    drill: Drill = field(default_factory=Drill)
    migrate: Migrate = field(default_factory=Migrate)
    not_data: Optional[NotData] = field(default=None, compare=False, repr=False)
    """Of an application's profile in which a component names the whole root; no key of a mapping."""


@dataclass(frozen=True)
class Application:
    """One bot on one host: a profile with its paths resolved."""

    name: str
    profile: Profile
    root: BotPath
    owner: str
    group: str
    backup_dir: OurPath
    config_dir: OurPath
    state_dir: OurPath
    bin_dir: OurPath
    system: bool = True
    """False where nothing of the system may be touched: no chown, no accounts, no system units."""
    user_units: bool = False
    """Whether all of it is a plain account's, with timers and services of that account's own systemd."""
    encryption: Encryption = field(default_factory=Encryption)
    backups_of: Optional[str] = None
    """The name of the host whose backups are meant for once; None for this installation's. In no configuration."""

    @property
    def has_units(self) -> bool:
        """Whether timers are installed for it, the system's or the account's own."""
        return self.system or self.user_units

    @property
    def services(self) -> tuple[Services, ...]:
        """What is stopped and started here: nothing where services are left to whoever started them."""
        return self.profile.services if self.has_units else ()

    @property
    def config_file(self) -> OurPath:
        """The configuration that the on-host command reads."""
        return self.config_dir / f"{self.name}.json"

    @property
    def checkout(self) -> BotPath:
        """Where the code lies: as the profile says, else the home that the data lies in, else the root itself."""
        if self.profile.deploy.directory:
            return BotPath(self.profile.deploy.directory)
        home = BotPath(self.profile.home or "/")
        return home if self.profile.home and home in self.root.parents else self.root

    @property
    def application_state_dir(self) -> OurPath:
        """Lock, journal, catalog and records of this application."""
        return self.state_dir / self.name

    @property
    def uses_host_key(self) -> bool:
        """Whether this host is to have a key of its own. With a passphrase it reads its backups without one."""
        return bool(self.encryption.recipients) and self.encryption.host_key

    @property
    def host_key_dir(self) -> OurPath:
        """Where the host's own key lies. Not with the records, which the unit of backups can write to."""
        return self.state_dir / ".host-keys" / self.name

    @property
    def host_public_key(self) -> OurPath:
        """What backups are encrypted to, beside the keys of people."""
        return self.host_key_dir / "public.asc"

    @property
    def host_secret_key(self) -> OurPath:
        """What opens those backups on this host, and is nowhere else."""
        return self.host_key_dir / "secret.asc"

    @property
    def public_key_dir(self) -> OurPath:
        """Where the public keys of people are installed. Of two applications on one host each has its own."""
        return self.config_dir / "keys" / self.name

    @property
    def secret_components(self) -> tuple[str, ...]:
        """The components with secrets that backups hold."""
        return tuple(item.name for item in self.profile.components if item.backup and item.holds_secrets)
