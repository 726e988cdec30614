# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a unit may see of the host and write to: the paths that it names, and how a unit file writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..application import Application
from ..errors import ConfigurationError

_HIDDEN_HOMES = tuple(PurePosixPath(path) for path in ("/home", "/root", "/run/user"))

# What there is of the system in a sandbox: programs and libraries, and what these look up. A link to /usr is as good.
_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"),
    *("/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime", "/etc/gcrypt"),
    *("/etc/group", "/etc/nsswitch.conf", "/etc/passwd"),
)
KEYRING = PurePosixPath("/root/.gnupg")
_PUBLIC_KEYS = ("pubring.kbx", "pubring.gpg", "trustdb.gpg")
_SECRET_KEYS = ("private-keys-v1.d", "secring.gpg")


@dataclass(frozen=True)
class Sight:
    """What a sandbox shows of the host beside ``_SYSTEM``; everything else is not there at all.

    reads and writes must exist, or the unit fails; keys need not, and neither need places, the directories that
    symlinks of the data are followed to. gpg_agent: there may be sockets, because gpg asks for its agent even to import
    a public key, and fails where it cannot; and the agent says what a passphrase is worth. keyring: names of files in
    root's keyring that are shown. Of that directory gpg finds the rest empty, and may write to it what is gone
    afterwards: nobody plants an agent there that root would start.
    """

    reads: tuple[PurePosixPath, ...] = ()
    writes: tuple[PurePosixPath, ...] = ()
    keys: tuple[PurePosixPath, ...] = ()
    places: tuple[PurePosixPath, ...] = ()
    keyring: tuple[str, ...] = ()
    gpg_agent: bool = False

    def lines(self, application: Application, runtime: Sequence[PurePosixPath]) -> str:
        """The lines of the unit. The paths of _SYSTEM are those of the host, the hidden ones those of the sandbox."""
        program = application.bin_dir / "tradekeep"
        shown = [*map(PurePosixPath, _SYSTEM), *runtime, *self.keys, *(KEYRING / name for name in self.keyring)]
        reads = [program, application.config_file, *self.reads]
        places = (argument(path, optional=True) for path in self.places)
        gnupg = f" {KEYRING}:mode=0700" if self.keyring else ""
        return (
            f"RootDirectory={whole_line(sandbox_root(application))}\n"
            # Sockets lie in /run, and are the way to systemd and to D-Bus.
            f"TemporaryFileSystem=/run:ro{gnupg}\n"
            f"BindReadOnlyPaths={' '.join(argument(path, optional=True) for path in dict.fromkeys(shown))}\n"
            f"BindReadOnlyPaths={' '.join(map(argument, reads))}\n"
            f"BindPaths={' '.join([*map(argument, self.writes), *places])}\n"
            "InaccessiblePaths=-+/run/systemd/journal -+/sys -+/dev/shm -+/dev/mqueue -+/dev/hugepages\n"
            "PrivateIPC=yes\n"
        )

    def home(self, application: Application, runtime: Sequence[PurePosixPath]) -> str:
        """ProtectHome, which would hide again what is shown beneath it."""
        used = [*paths_used(application), *self.reads, *self.writes, *self.places, *self.keys, *runtime]
        return "tmpfs" if self.keyring or any_beneath(used, _HIDDEN_HOMES) else "yes"


def sandbox_root(application: Application) -> PurePosixPath:
    """The directory that is ``/`` to the units that read what may be forged.

    It holds the places at which systemd mounts what they see. None of them can write to it, where a file would be one
    of the system's to the next.
    """
    return application.state_dir / ".sandbox" / application.name


def to_back_up(application: Application) -> Sight:
    """The live data can be written to because reading a live WAL database writes its index; the owner alone does it."""
    return Sight(
        writes=(application.root, application.backup_dir, application.application_state_dir),
        keys=(*_key_files(application), *_host_keys(application)),
        places=_followed_to(application),
        keyring=_PUBLIC_KEYS if uses_keyring(application) else (),
        gpg_agent=application.encryption.configured,
    )


def to_verify(application: Application) -> Sight:
    """Sees no live data. A secret key in root's keyring lets a host read backups to the keys that lie there too."""
    keyring = (*_PUBLIC_KEYS, *_SECRET_KEYS) if uses_keyring(application) else ()
    return Sight(
        reads=(application.backup_dir,),
        writes=(application.application_state_dir,),
        keys=(*_key_files(application), *_host_keys(application, secret=True)),
        keyring=keyring,
        gpg_agent=application.encryption.configured,
    )


def to_drill(application: Application) -> Sight:
    """Restores aside, and compares with the live data."""
    settings = application.profile.drill
    scratch = () if settings.scratch is None else (PurePosixPath(settings.scratch),)
    key = () if settings.key_file is None else (PurePosixPath(settings.key_file),)
    return Sight(
        reads=(application.backup_dir,),
        writes=(application.root, application.application_state_dir, *scratch),
        keys=(*_key_files(application), *_host_keys(application, secret=True), *key),
        places=_followed_to(application),
        gpg_agent=application.encryption.configured or bool(key),
    )


def _followed_to(application: Application) -> tuple[PurePosixPath, ...]:
    """Where symlinks of the data may lead."""
    places = (place for component in application.profile.components for place in component.follow_links)
    return tuple(dict.fromkeys(map(PurePosixPath, places)))


def protect_home(application: Application, used: Iterable[PurePosixPath]) -> str:
    needs_home = uses_keyring(application) or any_beneath(used, _HIDDEN_HOMES)
    return "read-only" if needs_home else "yes"


def uses_keyring(application: Application) -> bool:
    """Whether recipients are fingerprints, to be found in root's own keyring."""
    return any(not item.startswith("/") for item in application.encryption.recipients)


def paths_used(application: Application) -> list[PurePosixPath]:
    used = [application.root, application.backup_dir, application.state_dir, application.config_dir]
    return [*used, application.bin_dir, *_key_files(application)]


def _key_files(application: Application) -> tuple[PurePosixPath, ...]:
    encryption = application.encryption
    files = [item for item in encryption.recipients if item.startswith("/")]
    files += [encryption.passphrase_file] if encryption.passphrase_file else []
    return tuple(map(PurePosixPath, files))


def _host_keys(application: Application, *, secret: bool = False) -> tuple[PurePosixPath, ...]:
    """The host's own key: what writes archives sees its public half alone."""
    if not application.uses_host_key:
        return ()
    return (application.host_public_key, *((application.host_secret_key,) if secret else ()))


def any_beneath(paths: Iterable[PurePosixPath], tops: Sequence[PurePosixPath]) -> bool:
    return any(top == path or top in path.parents for path in paths for top in tops)


def whole_line(path: PurePosixPath) -> str:
    """A path for a setting that takes the line as it is."""
    argument(path)
    return str(path).replace("%", "%%")


def argument(path: PurePosixPath, *, optional: bool = False) -> str:
    """A path as a word of a unit file. ``optional``: it need not exist (ReadWritePaths and the like)."""
    text = str(path)
    if any(not c.isprintable() for c in text):
        raise ConfigurationError("a path in a unit has control characters", path=text)
    word = ("-" if optional else "") + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    # A colon would end the path where the place to mount it at may follow.
    return f'"{word}"' if re.search(r"[\s\"'\\;$:]", word) else word
