# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Those who deploy: tradekeep, and the known ways, each as people really run them."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from world import World, environment

import checkout

# Where compiled code goes, so that a hundred starts of the command do not compile it a hundred times.
COMPILED = Path(tempfile.gettempdir()) / f"tradekeep-torture-{os.getuid()}"
START = "import sys; from ansible_collections.tradekeep.ops.plugins.module_utils.core.cli import main; sys.exit(main())"
# The engine looks for programs in the system's directories alone; a test may have one of its own.
SEARCH = (
    "from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import runner; "
    "runner.SubprocessRunner.__init__.__kwdefaults__['search_path'] = '{path}:' + runner.SEARCH_PATH"
)


class Deployer(Protocol):
    """Brings the checkout to a commit of ``main``, or back to an older one."""

    name: str

    def deploy(self, world: World, commit: str) -> bool:
        """Whether it said that it worked."""


# The known ways


def shell(world: World, script: str, *, trusting: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
    """A script as a deploy job runs it: in the checkout."""
    known = {**environment(trusting=trusting), "TMP": str(world.temporary), **variables}
    command = ["bash", "-c", script]
    return subprocess.run(command, cwd=world.live, env=known, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class GitResetClean:
    """``git fetch; git reset --hard; git clean -fd``, as in countless deploy scripts."""

    flags: str = "-fd"
    trusting: bool = False
    name: str = "reset and clean"

    def deploy(self, world: World, commit: str) -> bool:
        target = "origin/main" if commit == world.second else commit
        script = f"git fetch origin; git reset --hard {target}; status=$?; git clean {self.flags}; exit $status"
        return shell(world, script, trusting=self.trusting).returncode == 0


# The module as it runs on a host once ansible has sent it there.
MODULE = """
import json, sys
from ansible.module_utils.testing import patch_module_args
from ansible.modules import git
with patch_module_args(json.loads(sys.argv[1])):
    git.main()
"""


@dataclass(frozen=True)
class AnsibleGit:
    """The module ansible.builtin.git: alone, which is quick, or by the whole of ansible."""

    force: bool = True
    whole: bool = False
    name: str = "ansible.builtin.git"

    def deploy(self, world: World, commit: str) -> bool:
        version = "main" if commit == world.second else commit
        wanted = {"repo": f"file://{world.upstream}", "dest": str(world.live), "version": version, "force": self.force}
        command = [sys.executable, "-c", MODULE]
        if self.whole:
            command = ["ansible", "localhost", "-c", "local", "-m", "ansible.builtin.git", "-a"]
        known = {**environment(), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
        known["PATH"] = f"{Path(sys.executable).parent}:{known['PATH']}"
        command.append(json.dumps(wanted))
        done = subprocess.run(command, env=known, cwd=world.base, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode == 0


AWAY = """
mkdir -p $TMP/vm_data_backup
for part in paper_trading_outputs logs data; do
  if [ -e $part ]; then cp -r $part $TMP/vm_data_backup/ 2>/dev/null || true; fi
done
"""
BACK = """
for part in paper_trading_outputs logs data; do
  if [ -e $TMP/vm_data_backup/$part ]; then rm -rf $part; cp -r $TMP/vm_data_backup/$part . 2>/dev/null || true; fi
done
rm -rf $TMP/vm_data_backup
"""


@dataclass(frozen=True)
class CopyAway:
    """Data to a temporary place, reset, clean, data back; while it is away, the bot goes on writing."""

    flags: str = "-fd"
    trusting: bool = False
    name: str = "copy away and back"

    def deploy(self, world: World, commit: str) -> bool:
        shell(world, AWAY)
        if world.bot is not None:
            world.await_rounds()
        done = GitResetClean(self.flags, self.trusting).deploy(world, commit)
        shell(world, BACK)
        return done


@dataclass(frozen=True)
class Script:
    """Another known way, as a script; $COMMIT is what is deployed."""

    name: str
    text: str

    def deploy(self, world: World, commit: str) -> bool:
        return shell(world, self.text, COMMIT=commit, UPSTREAM=str(world.upstream)).returncode == 0


# Ours


@dataclass(frozen=True)
class Answer:
    """How the command ended."""

    status: int
    record: dict[str, Any]
    text: str


COMPONENTS: dict[str, Any] = {
    "data": {"paths": ["data"], "directories": ["data"], "critical": True},
    "logs": {"paths": ["logs"], "directories": ["logs"]},
    "outputs": {"paths": ["paper_trading_outputs"], "directories": ["paper_trading_outputs"]},
    "credentials": {"paths": [".env"], "secret": True, "file_mode": "0600"},
}
PRESERVE = ["*.jsonl", "*.jsonl.gz", "*.csv", "*.log", "*.db", "*.db-wal", "*.db-shm"]


@dataclass(frozen=True)
class Tradekeep:
    """The command line, in a process of its own, with a configuration of its own."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""
    path: str = ""
    name: str = "tradekeep"

    def configure(self, world: World) -> Path:
        """The configuration file, written when it is not there yet."""
        place = world.base / "etc" / "bot.json"
        if not place.exists():
            place.parent.mkdir()
            place.write_text(render_configuration(self.application(world)))
        return place

    def application(self, world: World) -> Any:
        deploy = {"directory": str(world.live), "repository": str(world.upstream), "backup_first": "none"}
        profile = {
            "name": "bot",
            "components": COMPONENTS,
            "deploy": {**deploy, "preserve": PRESERVE, **self.settings},
            **self.profile,
        }
        places = {f"{name}_dir": str(world.base / name) for name in ("backup", "config", "state", "bin")}
        group = grp.getgrgid(pwd.getpwnam(self.owner).pw_gid).gr_name if self.owner else None
        return resolve_application(
            profile, root=str(world.live), owner=self.owner or None, group=group, become=bool(self.owner), **places
        )

    def command(self, world: World, *arguments: str) -> list[str]:
        start = START.replace("sys.exit", f"{SEARCH.format(path=self.path)}; sys.exit") if self.path else START
        if arguments[0] == "deploy":
            # The bot that trades here is no service of the profile: what is tried goes on beside it.
            arguments = ("deploy", "--force", *arguments[1:])
        return [sys.executable, "-c", start, "--config", str(self.configure(world)), *arguments]

    def run(self, world: World, *arguments: str) -> Answer:
        """One call of the command."""
        done = subprocess.run(
            self.command(world, *arguments), env=self.environment(world), capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        document = json.loads(done.stdout) if "--json" in arguments else {}
        record = document.get("record", {})
        return Answer(done.returncode, record, done.stderr + done.stdout)

    def environment(self, world: World) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        paths = {"PYTHONPATH": str(checkout.link()), "PYTHONPYCACHEPREFIX": str(COMPILED)}
        return {**kept, **paths, "TMPDIR": str(world.temporary)}

    def deploy(self, world: World, commit: str, *options: str) -> bool:
        return self.run(world, "deploy", commit, "--no-backup", *options).status == 0

    def plan(self, world: World, commit: str, *options: str) -> Answer:
        return self.run(world, "deploy", commit, "--dry-run", "--json", *options)


KNOWN_WAYS: Sequence[Deployer] = (GitResetClean(), AnsibleGit(), CopyAway())
