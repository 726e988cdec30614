# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Configuration of the bot's in the way of root: of supervisor, of gpg, of tradekeep itself, programs and places.

What lies at fixed places (/opt, /usr/local/bin, the accounts) is made in a mount namespace of the test's own.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core import profiles
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

pytestmark = [
    pytest.mark.root,
    pytest.mark.once,
    pytest.mark.skipif(
        not all(map(shutil.which, ("unshare", "setpriv", "gpg"))), reason="needs unshare, setpriv and gpg"
    ),
]
BOT = 63123
"""The number of the bot's account, trading_user, which exists in the namespace of a test alone."""
ENGINE = "ansible_collections.tradekeep.ops.plugins.module_utils.core"
NEEDS_SUPERVISOR = pytest.mark.skipif(
    importlib.util.find_spec("supervisor") is None or not Path("/usr/bin/python3").exists(),
    reason="needs supervisor (pip install supervisor) and /usr/bin/python3",
)
# Processes of its own as well: a bot of the same place on another test host is not to be taken for this one.
APART = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc")
INSIDE = """
set -e
mount -t tmpfs -o mode=0755 tmpfs /opt
mount -t tmpfs -o mode=0755 tmpfs /usr/local/bin
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
shift
exec "$@"
"""
DRIVER = f"""
import io, json, os, sys
from {ENGINE} import cli
answers = []
for words in json.loads(sys.stdin.read()):
    if words[0] == "exec":
        exec(words[1])
        continue
    if words[0] == "shell":
        done = os.system(words[1])
        answers.append([done, "", None])
        continue
    out, err = io.StringIO(), io.StringIO()
    status = cli.main(["--json", "--no-progress", *words], config_dir=sys.argv[1], stdout=out, stderr=err)
    answers.append([status, err.getvalue(), json.loads(out.getvalue() or "null")])
print(json.dumps(answers))
"""
CONFIG = """
[unix_http_server]
file=/opt/trading_system/backend/s.sock
[supervisord]
logfile=/opt/trading_system/backend/s.log
childlogdir=/opt/trading_system/backend
pidfile=/opt/trading_system/backend/s.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix:///opt/trading_system/backend/s.sock
[program:bot]
command=/bin/sleep 1000
startsecs=1
"""
# A function of the standard library that starts a shell, whatever its first argument is: nothing need be installed.
PLUGIN = """
[ctlplugin:x]
supervisor.ctl_factory = pydoc:pipepager
cmd = id -u >> {mark}
"""
WITH_BOT = "setpriv --reuid trading_user --regid trading_user --clear-groups -- "
# What a deploy that was cut off leaves behind.
STOPPED = f"""
from pathlib import Path
from {ENGINE}.transaction.stopped import note_stop
entry = dict(manager="supervisor", units=["all"], supervisor_config="/opt/trading_system/backend/supervisord.conf")
entry.update(stay_up_seconds=1, stop_timeout_seconds=5, running=["bot"])
Path("{{state}}").mkdir(parents=True)
note_stop(Path("{{state}}"), operation="deploy", snapshot=[entry])
"""
START = WITH_BOT + "/opt/supervisor/supervisord -c /opt/trading_system/backend/supervisord.conf"
STOP = "kill $(cat /opt/trading_system/backend/s.pid)"


class Server:
    """A server with the built-in profile kalshi as it is; what is done there is done in a mount namespace."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.config_dir = base / "etc"
        self.mark = base / "marks/who"
        (base / "marks").mkdir()
        (base / "marks").chmod(0o777)
        self.config_dir.mkdir()
        self.members = ""
        self.environment: dict[str, str] = {}
        self.bin: list[str] = []

    def install(self, **options: Any) -> None:
        application = resolve_application(
            "kalshi",
            config_dir=str(self.config_dir),
            state_dir=str(self.base / "state"),
            backup_dir=str(self.base / "backups"),
            bin_dir=str(self.base / "bin"),
            **options,
        )
        from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration

        (self.base / "backups").mkdir(exist_ok=True)
        (self.config_dir / "kalshi.json").write_text(render_configuration(application))

    def run(self, *commands: list[str], config: Optional[str] = None, before: str = "") -> list[tuple[int, str, Any]]:
        """Carry out commands of tradekeep, one after the other; ``shell`` is one of the shell's."""
        accounts = Path("/etc/passwd").read_text() + f"trading_user:x:{BOT}:{BOT}::/opt/trading_system:/bin/sh\n"
        (self.base / "passwd").write_text(accounts)
        groups = [line for line in Path("/etc/group").read_text().splitlines() if not line.startswith("staff:")]
        groups += [f"trading_user:x:{BOT}:", f"staff:x:50:{self.members}"]
        (self.base / "group").write_text("\n".join(groups) + "\n")
        prepared = [*self.bin, before]
        if config is not None:
            package = Path(importlib.util.find_spec("supervisor").submodule_search_locations[0])  # type: ignore[union-attr,index]
            (self.base / "supervisord.conf").write_text(config)
            prepared[:0] = [
                f"mkdir -p /opt/supervisor /opt/trading_system/backend && cp -r {package} /opt/supervisor/",
                *(self._program(name, module) for name, module in (("ctl", "supervisorctl"), ("d", "supervisord"))),
                "ln -s /opt/supervisor/supervisorctl /usr/local/bin/",
                f"cp {self.base}/supervisord.conf /opt/trading_system/backend/",
                "chown -R trading_user:trading_user /opt/trading_system",
            ]
        script = "\n".join(filter(None, prepared))
        driver = [sys.executable, "-B", "-c", DRIVER, str(self.config_dir)]
        done = subprocess.run(
            [
                *APART,
                "sh",
                "-c",
                INSIDE,
                "sh",
                str(self.base),
                "sh",
                "-c",
                f'set -e\n{script}\nexec "$@"',
                "sh",
                *driver,
            ],
            input=json.dumps(commands),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **self.environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [(status, said, answer) for status, said, answer in json.loads(done.stdout.splitlines()[-1])]

    @staticmethod
    def _program(name: str, module: str) -> str:
        lines = ["#!/usr/bin/python3", "import sys", "sys.path.insert(0, '/opt/supervisor')"]
        lines += [f"from supervisor.{module} import main", "main()"]
        file = f"/opt/supervisor/supervisor{name}"
        return f'printf "%s\\n" {" ".join(map(_quoted, lines))} > {file}\nchmod 755 {file}'

    def who(self) -> set[str]:
        """The accounts that the bot's code ran as."""
        return set(self.mark.read_text().split()) if self.mark.exists() else set()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


@pytest.fixture
def server() -> Iterator[Server]:
    base = Path(tempfile.mkdtemp(prefix="tk-"))
    base.chmod(0o755)
    yield Server(base)
    shutil.rmtree(base)


def one_line(said: str) -> str:
    """What the command says, which is one line and no traceback."""
    lines = [line for line in said.splitlines() if line.startswith("tradekeep: ")]
    assert "Traceback" not in said and len(lines) == 1, said
    return lines[0]


# supervisor


@NEEDS_SUPERVISOR
@pytest.mark.parametrize(
    "command",
    [["fence", "--dry-run"], ["fence"], ["migrate", "--survey"], ["restore", "latest"], ["recover"]],
    ids=" ".join,
)
def test_a_plugin_of_the_bots_for_supervisorctl_never_runs_as_root(server: Server, command: list[str]) -> None:
    server.install()
    data = "mkdir -p /opt/trading_system/user_data/state; chown -R trading_user: /opt/trading_system"
    state = "/opt/trading_system/user_data/state/account_mode.json"
    change = 'echo \'{"mode": "prod"}\' > ' + state
    make = {
        "restore": [["tree", "--fix"], ["backup"], ["shell", change]],
        "recover": [["exec", STOPPED.format(state=server.base / "state/kalshi")]],
    }.get(command[0], [])
    answers = server.run(
        *make, command, config=CONFIG + PLUGIN.format(mark=server.mark), before=f"{data}; chmod 755 /opt/trading_system"
    )
    assert server.who() <= {str(BOT)}, "code of the bot's ran as root"
    status, said, _answer = answers[-1]
    assert status == (4 if command[0] == "recover" else 3) and server.who() == {str(BOT)}, said
    assert "supervisorctl status failed as trading_user" in one_line(said)


@NEEDS_SUPERVISOR
def test_a_supervisord_of_the_bots_is_told_by_the_bots_account(server: Server) -> None:
    """The profile as it is, on a server where the bot's account owns the code and runs supervisord."""
    server.install()
    answers = server.run(
        ["shell", START],
        ["shell", "sleep 2"],
        ["tree", "--fix"],
        ["fence"],
        ["unfence"],
        ["fence", "--dry-run"],
        ["shell", STOP],
        config=CONFIG,
        before="mkdir -p /opt/trading_system/user_data; chown trading_user: /opt/trading_system/user_data",
    )
    assert [status for status, _said, _answer in answers[2:6]] == [0, 0, 0, 0], answers
    assert answers[3][2]["record"]["stopped"] == ["bot"]
    assert answers[4][2]["record"]["started"] == ["bot"]
    assert answers[5][2]["record"]["stopped"] == ["bot"]


@NEEDS_SUPERVISOR
def test_a_supervisord_of_roots_is_not_reached_by_a_configuration_of_the_bots(server: Server) -> None:
    server.install()
    start = START.removeprefix(WITH_BOT)
    status, said, _answer = server.run(
        ["shell", start], ["shell", "sleep 2"], ["fence", "--dry-run"], ["shell", STOP], config=CONFIG
    )[2]
    assert status == 3
    assert "supervisorctl status failed as trading_user" in one_line(said) and "User= in its unit" in said


@NEEDS_SUPERVISOR
def test_a_configuration_in_a_directory_of_everybodys_is_not_used_at_all(server: Server) -> None:
    server.install()
    status, said, _answer = server.run(
        ["fence", "--dry-run"],
        config=CONFIG + PLUGIN.format(mark=server.mark),
        before="chown -R root: /opt/trading_system; chmod 777 /opt/trading_system/backend",
    )[0]
    assert status == 3 and not server.who()
    assert "/opt/trading_system/backend can be written to by everybody" in one_line(said)


@NEEDS_SUPERVISOR
def test_a_configuration_of_the_system_that_others_can_write_is_not_used(server: Server) -> None:
    """Without a name in the profile, supervisorctl looks for a file by itself, in the directory above its own first."""
    server.install()
    file = server.config_dir / "kalshi.json"
    found = json.loads(file.read_text())
    del found["profile"]["services"][0]["supervisor_config"]
    file.write_text(json.dumps(found))
    status, said, _answer = server.run(
        ["fence", "--dry-run"],
        config=CONFIG + PLUGIN.format(mark=server.mark),
        before="mount -t tmpfs -o mode=0755 tmpfs /usr/local/etc; cp /opt/trading_system/backend/supervisord.conf"
        " /usr/local/etc/; chown trading_user /usr/local/etc/supervisord.conf",
    )[0]
    assert status == 3 and not server.who()
    assert "/usr/local/etc/supervisord.conf belongs to trading_user" in one_line(said)


# Programs, and what their environment says


@pytest.mark.parametrize("members", ["", "trading_user"])
def test_a_directory_of_programs_that_a_group_can_write_counts_while_nobody_is_in_the_group(
    server: Server, members: str
) -> None:
    """/usr/local/bin of an older Debian: root:staff 2775."""
    server.install(passphrase_file=str(server.base / "passphrase"))
    (server.base / "passphrase").touch(0o600)
    (server.base / "passphrase").write_text("correct horse\n")
    server.members = members
    program = f'#!/bin/sh\\nid -u >> {server.mark}\\nexec /usr/bin/gpg \\"$@\\"\\n'
    server.bin = [
        f'printf "{program}" > /usr/local/bin/gpg; chmod 755 /usr/local/bin/gpg',
        "chgrp staff /usr/local/bin; chmod 2775 /usr/local/bin",
    ]
    server.run(["tree", "--fix"], ["config", "check"], before="mkdir -p /opt/trading_system/user_data")
    assert server.who() == (set() if members else {"0"})


def test_gpg_of_root_reads_no_home_of_the_bots(server: Server) -> None:
    """``sudo -E`` and ``HOME=``: the keyring of the bot's would say whom a backup of root's is encrypted to."""
    home = server.base / "home"
    (home / ".gnupg").mkdir(parents=True, mode=0o700)
    gpg = ["gpg", "--homedir", str(home / ".gnupg"), "--batch", "--quiet", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", "bot@example.com"], check=True, capture_output=True)
    listed = subprocess.run([*gpg, "--with-colons", "--list-keys"], check=True, capture_output=True, text=True).stdout
    subprocess.run(["gpgconf", "--homedir", str(home / ".gnupg"), "--kill", "all"], check=False)
    fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
    for directory, _names, names in os.walk(home):
        for name in (".", *names):
            os.chown(os.path.join(directory, name), BOT, BOT, follow_symlinks=False)
            # For a root without the right to override permissions.
            os.chmod(os.path.join(directory, name), 0o755)
    server.environment = {"HOME": str(home), "GNUPGHOME": str(home / ".gnupg")}
    server.install(gpg_recipients=(fingerprint,))
    status, said, _answer = server.run(
        ["tree", "--fix"], ["backup", "--encrypt"], before="mkdir -p /opt/trading_system/user_data"
    )[1]
    assert status == 3 and "recipient is unknown" in one_line(said)
    assert os.stat(home / ".gnupg/pubring.kbx").st_uid == BOT


def test_temporary_files_of_root_do_not_go_where_the_bot_says(server: Server, request: pytest.FixtureRequest) -> None:
    """The bot would exchange the gpg home for one of its own, whose agent runs the program that it names."""
    # A gpg home is made in no place with a long path.
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    request.addfinalizer(lambda: shutil.rmtree(place))
    os.chown(place, BOT, BOT)
    server.environment = {"TMPDIR": str(place)}
    secret = server.base / "passphrase"
    secret.touch(0o600)
    secret.write_text("correct horse\n")
    server.install(passphrase_file=str(secret))
    server.bin = [
        f'printf \'#!/bin/sh\\necho "$@" >> {server.mark}\\nexec /usr/bin/gpg "$@"\\n\' > /usr/local/bin/gpg',
        "chmod 755 /usr/local/bin/gpg",
    ]
    server.run(["tree", "--fix"], ["config", "check"], before="mkdir -p /opt/trading_system/user_data")
    assert server.mark.exists() and str(place) not in server.mark.read_text()


def test_the_program_runs_no_code_of_a_home_of_the_bots(server: Server, tmp_path: Path) -> None:
    """The interpreter carries out the lines of ``*.pth`` there before the program begins."""
    if not Path("/usr/bin/python3").exists():
        pytest.skip("needs /usr/bin/python3")
    from ansible_collections.tradekeep.ops.plugins.module_utils.core.program import build_program

    program = tmp_path / "tradekeep"
    program.write_bytes(build_program())
    program.chmod(0o755)
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path / "path")}
    asked = ["/usr/bin/python3", "-c", "import site; print(site.getusersitepackages())"]
    place = Path(subprocess.run(asked, env=environment, check=True, capture_output=True, text=True).stdout.strip())
    evil = f"import os; os.system('id -u >> {server.mark}')\n"
    place.mkdir(parents=True)
    (place / "evil.pth").write_text(evil)
    (tmp_path / "path").mkdir()
    (tmp_path / "path/sitecustomize.py").write_text(evil)
    done = subprocess.run([program, "--version"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "tradekeep" in done.stdout, done.stderr
    assert server.who() == set()


# Files that root reads


@pytest.fixture
def place_of_the_bots(server: Server) -> Path:
    place = server.base / "bots"
    place.mkdir()
    os.chown(place, BOT, BOT)
    return place


@pytest.mark.parametrize("how", ["its file", "its directory", "a link in its directory"])
def test_root_reads_no_configuration_that_the_bot_can_change(server: Server, place_of_the_bots: Path, how: str) -> None:
    server.install()
    theirs = place_of_the_bots / "kalshi.json"
    ours = server.config_dir / "kalshi.json"
    if how == "a link in its directory":
        theirs.symlink_to(ours)
    else:
        shutil.copy(ours, theirs)
    if how == "its file":
        theirs = server.base / "kalshi.json"
        shutil.copy(ours, theirs)
        os.chown(theirs, BOT, BOT)
    status, said, _answer = server.run(["--config", str(theirs), "config", "show"])[0]
    assert status == 2
    assert "root does not use the configuration, as others can change it" in one_line(said)
    assert "belongs to trading_user" in said


def passphrase(path: Path) -> Path:
    path.touch(0o600)
    path.write_text("correct horse\n")
    return path


def test_root_reads_no_passphrase_that_the_bot_can_change(server: Server, place_of_the_bots: Path) -> None:
    server.install(passphrase_file=str(passphrase(place_of_the_bots / "passphrase")))
    status, said, _answer = server.run(
        ["tree", "--fix"], ["backup", "--encrypt"], before="mkdir -p /opt/trading_system/user_data"
    )[1]
    assert status == 3 and list((server.base / "backups").glob("**/*.gpg")) == []
    assert "root does not use the passphrase file, as others can change it" in one_line(said)


@pytest.mark.parametrize("option", ["--passphrase-file", "--key"])
def test_a_drill_reads_no_key_that_the_bot_can_change(server: Server, place_of_the_bots: Path, option: str) -> None:
    server.install(passphrase_file=str(passphrase(server.base / "passphrase")))
    theirs = passphrase(place_of_the_bots / "key")
    answers = server.run(
        ["tree", "--fix"],
        ["backup", "--encrypt"],
        ["drill", "latest", option, str(theirs)],
        before="mkdir -p /opt/trading_system/user_data",
    )
    status, said, answer = answers[-1]
    assert answers[1][0] == 0 and status == 1 and "Traceback" not in said
    assert "as others can change it" in json.dumps(answer)


def test_a_pipe_of_the_bots_instead_of_a_passphrase_does_not_hold_root(server: Server, place_of_the_bots: Path) -> None:
    os.mkfifo(place_of_the_bots / "passphrase", 0o600)
    server.install(passphrase_file=str(place_of_the_bots / "passphrase"))
    status, said, _answer = server.run(
        ["tree", "--fix"], ["backup", "--encrypt"], before="mkdir -p /opt/trading_system/user_data"
    )[1]
    assert status == 3 and "as others can change it" in one_line(said)


def test_the_key_of_a_recipient_is_not_the_bots_to_choose(server: Server, place_of_the_bots: Path) -> None:
    key = place_of_the_bots / "key.asc"
    key.write_text("any")
    server.install(gpg_recipients=(str(key),))
    status, said, _answer = server.run(
        ["tree", "--fix"], ["backup", "--encrypt"], before="mkdir -p /opt/trading_system/user_data"
    )[1]
    assert status == 3 and "root does not use the recipient's key file" in one_line(said)


def test_the_known_hosts_of_a_migration_are_not_the_bots_to_choose(server: Server, place_of_the_bots: Path) -> None:
    """Who writes them says which server the data of a migration is taken from."""
    (place_of_the_bots / "known_hosts").write_text("")
    server.install()
    status, said, _answer = server.run(
        ["tree", "--fix"],
        ["migrate", "--from", "root@127.0.0.1", "--port", "1", "--known-hosts", str(place_of_the_bots / "known_hosts")],
        before="mkdir -p /opt/trading_system/user_data",
    )[1]
    assert status in (2, 3) and "root does not use the list of known hosts" in one_line(said)


def test_a_place_of_roots_programs_that_the_bot_can_change_is_found(server: Server) -> None:
    server.install()
    (server.base / "bin").mkdir()
    os.chown(server.base / "bin", BOT, BOT)
    status, _said, answer = server.run(
        ["tree", "--fix"], ["config", "check"], before="mkdir -p /opt/trading_system/user_data"
    )[1]
    problems = [text for text in answer["record"]["problems"] if "others can change" in text]
    assert status == 1 and len(problems) == 1 and "directory of bin_dir" in problems[0]


# All built-in profiles

# Each place of a profile that names a file or a command, and what keeps it from being the bot's way to root.
AS_THE_OWNER = {
    "services.supervisor_config": "host/supervisor.py",
    "deploy.hooks.command": "operations/deploy/hooks.py",
    "deploy.health.command": "host/health.py",
    "deploy.dependencies.python": "operations/deploy/dependencies.py",
    "deploy.ssh_key_file": "git/process.py",
    "deploy.known_hosts_file": "git/process.py",
    "deploy.repository": "git/process.py",
}
TRUSTED = {
    "deploy.signers": "git/signatures.py",
    "drill.key_file": "archive/encryption.py",
}
# Places of data, which hold no configuration and no program.
OF_DATA = {"root", "home", "deploy.directory"}


def named_by(settings: Any, where: str = "") -> Iterator[str]:
    """The key of every absolute path and every command in a profile."""
    if dataclasses.is_dataclass(settings):
        for field in dataclasses.fields(settings):
            key = f"{where}.{field.name}".lstrip(".")
            value = getattr(settings, field.name)
            if field.name in ("command", "python") and value:
                yield key
            else:
                yield from named_by(value, key)
    elif isinstance(settings, (list, tuple)):
        for item in settings:
            yield from named_by(item, where)
    elif isinstance(settings, str) and settings.startswith("/"):
        yield where


@pytest.mark.parametrize("name", sorted(profiles.BUILT_IN))
def test_what_a_built_in_profile_names_is_trusted_or_used_as_the_owner(name: str) -> None:
    found = set(named_by(resolve_application(name, owner="nobody").profile))
    assert found <= AS_THE_OWNER.keys() | TRUSTED.keys() | OF_DATA


@pytest.mark.parametrize(("key", "file"), sorted({**AS_THE_OWNER, **TRUSTED}.items()))
def test_the_module_that_uses_it_says_so(key: str, file: str) -> None:
    import ansible_collections.tradekeep.ops.plugins.module_utils.core as core

    text = (Path(next(iter(core.__path__))) / file).read_text()
    assert ("_trusted(" if key in TRUSTED else "command_as(") in text


HOOKED = """
import os, sys
from pathlib import Path
from {engine}.deploy_settings import Dependencies, HealthCheck, Hook
from {engine}.host.account import account_of
from {engine}.host.health import HealthGate
from {engine}.host.runner import SubprocessRunner, SystemClock
from {engine}.operations.deploy.dependencies import Environments
from {engine}.operations.deploy.hooks import Hooks
from {engine}.ports import NoProgress, Ports
ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())
bot, base = account_of("nobody"), Path(sys.argv[1])
say = ("sh", "-c", f"id -u >> {{base}}/marks/who; cat /etc/shadow >> {{base}}/marks/who 2>&1 || true")
hooks = Hooks([Hook("before_stop", say)], application="a", directory=base, account=bot, logs=base / "l", ports=ports)
hooks.run("before_stop")
HealthGate([HealthCheck(command=say)], root=base, directory=base, account=bot, ports=ports).run()
python = base / "bots/python"
python.write_text(f"#!/bin/sh\\nid -u >> {{base}}/marks/who\\nexec /usr/bin/python3 \\"$@\\"\\n")
python.chmod(0o755)
(base / "requirements.txt").write_text("")
Environments(Dependencies(python=str(python)), checkout=base, account=bot, ports=ports).plan(base)
"""


def test_hooks_health_commands_and_interpreters_run_as_the_owner(server: Server, place_of_the_bots: Path) -> None:
    program = HOOKED.format(engine=ENGINE)
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, str(server.base)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = server.mark.read_text()
    assert said.split().count(str(pwd.getpwnam("nobody").pw_uid)) >= 3 and "\n0\n" not in said and "root:" not in said
