# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The unit that runs the bot: installed and enabled, never started, and nobody's file is overwritten."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.application import Application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.all_units import BotUnits, install_all_units
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.bot_units import (
    UnitFile,
    install_bot_units,
    unit_problems,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.outcome import Outcome
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Completed, NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application
from ansible_collections.tradekeep.ops.plugins.module_utils.core.transaction.fence_file import write_fence

UNIT = """[Unit]
Description=A bot

[Service]
User=bot
ExecStart=/opt/toy/venv/bin/python bot.py

[Install]
WantedBy=multi-user.target
"""
NAME = "toy.service"


class Systemd(NoProgress):
    """Knows which units are enabled and active; `systemd-analyze` is the machine's, where it has one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls: list[tuple[str, ...]] = []
        self.notes: list[str] = []
        self.enabled: set[str] = set()
        self.facts: dict[str, str] = {}
        self._real = SubprocessRunner()
        self.ports = Ports(runner=self, clock=SystemClock(), progress=self)  # type: ignore[arg-type]

    def note(self, text: str) -> None:
        self.notes.append(text)

    def find(self, program: str) -> Optional[str]:
        return self._real.find(program) if program == "systemd-analyze" else f"/usr/bin/{program}"

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        if argv[0] == "systemd-analyze":
            return self._real.run(argv, **options)
        self.calls.append(tuple(argv))
        if argv[1] == "reenable":
            self.enabled |= set(argv[2:])
        said = "\n".join(map(self._shown, argv[3:])) if argv[1] == "show" else ""
        return Completed(tuple(argv), 0, said, "")

    def _shown(self, name: str) -> str:
        place = self.directory / name
        facts = {
            "Id": name,
            "FragmentPath": str(place) if place.exists() else "",
            "UnitFileState": "enabled" if name in self.enabled else "disabled",
            "LoadState": "loaded" if place.exists() else "not-found",
            **self.facts,
        }
        return "".join(f"{key}={value}\n" for key, value in facts.items())

    def told(self) -> list[tuple[str, ...]]:
        """What changed the system, since the last time."""
        told, self.calls = [call for call in self.calls if call[1] != "show"], []
        return told


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    (tmp_path / "units").mkdir()
    return Systemd(tmp_path / "units")


@pytest.fixture
def application(tmp_path: Path) -> Application:
    places = {name: str(tmp_path / name) for name in ("backup_dir", "config_dir", "state_dir", "bin_dir")}
    profile = {
        "name": "toy",
        "components": {"data": {"paths": ["data"]}},
        "services": [{"manager": "systemd", "units": ["toy.timer", "toy@1.service", "dashboard"]}],
    }
    return resolve_application(profile, root="/opt/toy", owner="root", group="root", **places)


def installed(application: Application, systemd: Systemd, *files: UnitFile, **options: Any) -> Outcome:
    return install_bot_units(application, systemd.ports, files, unit_dir=str(systemd.directory), **options)


def unit(text: str = UNIT, name: str = NAME, **options: Any) -> UnitFile:
    return UnitFile(name, text.encode(), **options)


def test_a_unit_is_installed_enabled_not_started_and_then_left_alone(
    application: Application, systemd: Systemd
) -> None:
    planned = installed(application, systemd, unit(), dry_run=True)
    assert (planned.changed, systemd.told(), list(systemd.directory.iterdir())) == (True, [], [])
    assert planned.after == {NAME: tuple(UNIT.splitlines())}
    done = installed(application, systemd, unit())
    place = systemd.directory / NAME
    assert (place.read_text(), place.stat().st_mode & 0o777) == (UNIT, 0o644)
    assert systemd.told() == [("systemctl", "daemon-reload"), ("systemctl", "reenable", NAME)]
    assert f"{NAME} is not started; the first deploy starts it, or: systemctl start {NAME}" in done.lines
    again = installed(application, systemd, unit())
    assert (again.changed, again.lines, again.before, again.after, systemd.told()) == (False, (), {}, {}, [])
    systemd.facts = {"ActiveState": "active"}
    changed = installed(application, systemd, unit(UNIT.replace("A bot", "The bot")))
    assert changed.before[NAME][1] == "Description=A bot"
    assert f"{NAME} runs as it was installed before, until: systemctl restart {NAME}" in changed.lines
    assert systemd.notes == []


def test_a_file_that_was_not_installed_like_this_is_not_overwritten(application: Application, systemd: Systemd) -> None:
    """A person's, one that a person has changed since, and that of a package. The same content is adopted."""
    place = systemd.directory / NAME
    place.write_text("[Service]\nExecStart=/usr/bin/true\n")
    kept = place.read_text()
    for dry_run in (True, False):
        with pytest.raises(TradekeepError, match=r"was not installed from there.*nothing was changed.*replace: true"):
            installed(application, systemd, unit(), dry_run=dry_run)
    assert (place.read_text(), systemd.told()) == (kept, [])
    assert installed(application, systemd, unit(replace=True)).changed
    (aside,) = (Path(application.application_state_dir) / "replaced").iterdir()
    assert (aside.read_text(), aside.stat().st_mode & 0o777) == (kept, 0o600)
    place.write_text(UNIT + "# by hand\n")
    with pytest.raises(TradekeepError, match="replace: true"):
        installed(application, systemd, unit())
    place.write_text(UNIT)
    assert not installed(application, systemd, unit()).changed
    place.unlink()
    systemd.facts = {"FragmentPath": f"/usr/lib/systemd/system/{NAME}"}
    with pytest.raises(TradekeepError, match=f"a unit of this host's, /usr/lib/systemd/system/{NAME}"):
        installed(application, systemd, unit())
    place.symlink_to("/opt/toy/toy.service")
    with pytest.raises(TradekeepError, match=r"is a symlink to /opt/toy/toy\.service"):
        installed(application, systemd, unit(replace=True))


def test_what_was_there_with_the_same_content_is_adopted(application: Application, systemd: Systemd) -> None:
    (systemd.directory / NAME).write_text(UNIT)
    systemd.enabled.add(NAME)
    place = systemd.directory / NAME
    assert installed(application, systemd, unit()).lines == (f"adopt {place}, which is as units_files has it",)
    assert (installed(application, systemd, unit()).changed, systemd.told()) == (False, [])
    assert installed(application, systemd, unit(UNIT + "\n")).changed


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("toy.timer", False),
        (NAME, False),
        ("toy@.service", False),
        ("dashboard.service", False),
        ("tyo.service", True),
        ("ssh.service", True),
        ("../toy.service", True),
        ("toy.conf", True),
    ],
)
def test_only_the_profiles_services_are_installed(
    application: Application, systemd: Systemd, name: str, refused: bool
) -> None:
    texts = {"toy.timer": "[Timer]\nOnCalendar=daily\n"}
    problems = list(unit_problems(application, systemd.ports, [unit(texts.get(name, UNIT), name)], systemd.directory))
    assert len(problems) == refused, problems
    if refused and not name.startswith(".") and name.endswith("service"):
        assert "it has toy.timer, toy@1.service, dashboard.service" in str(problems[0])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (UNIT.replace("User=", "Usr="), "line 5: Unknown key"),
        (UNIT.replace("ExecStart", "ExecStrat"), "line 6: Unknown key"),
        (UNIT.replace("ExecStart=/", "ExecStart="), "line 6: "),
        (UNIT.replace("ExecStart=/opt/toy/venv/bin/python bot.py\n", ""), "Service has no ExecStart="),
        ("hello\n", "line 1: "),
    ],
)
def test_a_typo_in_the_unit_is_refused_with_its_line(
    application: Application, systemd: Systemd, wrong: str, said: str
) -> None:
    if systemd.find("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    with pytest.raises(TradekeepError, match=f"^{re.escape(NAME)}: systemd does not understand it: {said}"):
        installed(application, systemd, unit(wrong))
    assert (list(systemd.directory.iterdir()), systemd.told()) == ([], [])


def test_what_a_unit_should_not_say_is_said_and_no_secret_is_shown(application: Application, systemd: Systemd) -> None:
    text = UNIT.replace("User=bot\n", 'Environment=KEY_FILE=/etc/key "API_KEY=abc" MODE=demo\n')
    text = text.replace("/opt/toy/venv", "/opt/tyo")
    done = installed(application, systemd, unit(text))
    assert "abc" not in str(done.after)
    secret, root, *lacking = systemd.notes
    assert "everybody on the host can read Environment=API_KEY (" in secret
    assert root == f"{NAME}: names no User=, so that what it starts runs as root"
    if systemd.find("systemd-analyze") is not None:
        assert lacking == [f"{NAME}: there is no program /opt/tyo/bin/python on this host"]


def test_a_unit_that_is_no_longer_named_stays_and_is_named(application: Application, systemd: Systemd) -> None:
    installed(application, systemd, unit())
    for _run in range(2):
        systemd.notes.clear()
        assert not installed(application, systemd).changed
        assert f"systemctl disable --now {NAME} && rm {systemd.directory / NAME}" in systemd.notes[0]
    (systemd.directory / NAME).unlink()
    for notes in (0, 0):
        systemd.notes.clear()
        installed(application, systemd)
        assert len(systemd.notes) == notes


def test_a_fence_and_a_mask_stay(application: Application, systemd: Systemd) -> None:
    place = systemd.directory / NAME
    write_fence(Path(application.application_state_dir), {"reason": "moved"})
    installed(application, systemd, unit())
    assert systemd.told() == [("systemctl", "daemon-reload")]
    place.unlink()
    place.symlink_to("/dev/null")
    assert not installed(application, systemd, unit(UNIT + "\n")).changed
    assert place.is_symlink()
    assert systemd.notes == [f"{NAME}: is masked, and was left alone"]


def test_a_unit_that_is_about_to_come_is_not_missing(application: Application, systemd: Systemd) -> None:
    """Check mode says what it would install, and not that it is missing. For practice nothing starts at boot."""
    place = str(systemd.directory)
    bot = BotUnits((unit(name="dashboard.service"),), enable=False)
    planned = install_all_units(application, systemd.ports, bot, unit_dir=place, dry_run=True)
    assert list(planned.after)[:1] == ["services"]
    missing = [note.partition(":")[0] for note in systemd.notes if "there is no such service" in note]
    assert missing == ["toy.timer", "toy@1.service"]
    install_all_units(application, systemd.ports, BotUnits(bot.files, enable=False, alone=True), unit_dir=place)
    (unit_file,) = systemd.directory.iterdir()
    assert (unit_file.name, systemd.enabled) == ("dashboard.service", set())
    removed = install_all_units(application, systemd.ports, BotUnits(), unit_dir=place, present=False)
    assert (removed.changed, unit_file.read_text()) == (False, UNIT)


def test_a_template_is_installed_and_not_enabled(application: Application, systemd: Systemd) -> None:
    done = installed(application, systemd, unit(name="toy@.service"))
    assert (done.record["written"], done.record["enabled"]) == (["toy@.service"], [])
    assert systemd.told() == [("systemctl", "daemon-reload")]
    assert not installed(application, systemd, unit(name="toy@.service")).changed
