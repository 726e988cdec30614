# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""`site` takes over what an earlier version has installed, without loss, and that version takes it back.

Each test runs in three phases: after the upgrade, after the way back, and after the second upgrade.
"""

from __future__ import annotations

import re

from installation import STATE, Installation, Journey, Phase
from trading_server import FILLS, ROOT


def test_site_has_nothing_to_do_when_run_again(server: Installation, journey: Journey, phase: Phase) -> None:
    first, second = journey.said[phase.name]
    assert re.search(rf"^{server.name} .*changed=[1-9].* unreachable=0 .*failed=0", first, re.MULTILINE), first
    assert re.search(rf"^{server.name} .*changed=0 .*unreachable=0 .*failed=0", second, re.MULTILINE), second


def test_every_service_is_rewritten_and_its_timer_runs(server: Installation, journey: Journey, phase: Phase) -> None:
    before, after = journey.before[phase.name, server.name].units, journey.after[phase.name, server.name].units
    # With a key of its own a host drills by timer, and what a crash cut off starts again; not by the earlier version.
    added = {name for name in set(after) ^ set(before) if server.has_passphrase or "-drill-" not in name}
    assert added == {"tradekeep-missed-kalshi.service"}
    assert (added <= set(after)) == (phase.version == "current")
    assert [name for name in after if name.endswith(".service") and after[name] == before.get(name)] == []
    for service in server.jobs():
        timer = service.replace(".service", ".timer")
        assert bool(server.unit(service, "RootDirectory")) == (phase.version == "current"), service
        assert {server.unit(unit, "NeedDaemonReload") for unit in (service, timer)} == {"no"}
        assert server.host.service(timer).is_enabled
        assert server.host.service(timer).is_running
        assert server.unit(timer, "NextElapseUSecRealtime")


def test_nothing_is_lost_or_changed(server: Installation, journey: Journey, phase: Phase) -> None:
    """Neither live data nor state nor backups, but for the places of the sandbox and the host's own key."""
    before, after = journey.before[phase.name, server.name].files, journey.after[phase.name, server.name].files
    application = f"{STATE}/kalshi"
    mended = {application: ("d711", "root:root", "")} if phase.version == "current" else {}
    assert {path: after.get(path) for path in before if after.get(path) != before[path]}.items() <= mended.items()
    assert after[application][1] == "root:root"
    new = {path for path in after if path not in before}
    ours = (f"{STATE}/.sandbox", f"{STATE}/.host-keys", f"{application}/scratch")
    assert [path for path in new if not path.startswith(ours)] == []
    keys = {path: after[path][:2] for path in after if path.startswith(f"{STATE}/.host-keys/")}
    assert {owner for _mode, owner in keys.values()} <= {"root:root"}
    assert {mode for mode, _owner in keys.values()} <= {"d700", "f600"}
    assert {path for path in after if "/credentials" in path or "/databases" in path if after[path][0][1:] == "700"}


def test_the_bot_never_stopped(server: Installation, journey: Journey, phase: Phase) -> None:
    before, after = journey.before[phase.name, server.name], journey.after[phase.name, server.name]
    assert before.bot
    assert after.bot == before.bot == server.bot_pid()


def test_all_backups_are_listed_and_stand_up_to_verification(server: Installation, phase: Phase) -> None:
    assert server.archive(phase.former) in server.archives() <= server.listed()
    server.run(f"tradekeep verify all --deep {server.key()}")


def test_backups_of_the_former_version_are_restored(server: Installation, phase: Phase) -> None:
    """One somewhere else, and one to a person's key in the place of fills that a person has deleted."""
    server.run("rm -rf /var/tmp/look")
    server.run(f"tradekeep restore {server.key()} --to /var/tmp/look {server.archive(phase.former)}")
    assert server.has_rows(phase.former, "/var/tmp/look/databases/accounts/kalshi/demo/fills.db")
    server.run("rm -r /var/tmp/look")

    server.run(f"runuser -u trading_user -- sqlite3 -cmd '.timeout 20000' {FILLS} 'DELETE FROM fills WHERE id % 2'")
    assert not server.has_rows(phase.former)
    server.run(f"tradekeep restore {server.key()} {server.archive(f'{phase.former}_sealed')}")
    assert server.has_rows(phase.former)
    assert server.trading()
    assert server.run(f"find {ROOT}/credentials {ROOT}/databases -perm /077 -o ! -user trading_user") == ""
    server.host.run_expect([0], "tradekeep tree")
    server.host.run_expect([0], "tradekeep db check")


def test_units_do_their_work(server: Installation, phase: Phase) -> None:
    bot = server.bot_pid()
    for service in server.jobs():
        kept = server.archives()
        started = server.host.run(f"systemctl start {service}")
        assert started.rc == 0, server.run(f"journalctl --no-pager -n 20 -u {service}")
        made = server.archives() - kept
        assert len(made) == ("-backup-" in service), service
        encrypted = phase.version == "current" or "-weekly" in service
        assert all(name.endswith(".gpg") == encrypted for name in made)
    assert server.bot_pid() == bot
    assert server.run("systemctl --failed --no-legend --plain") == ""


def test_the_data_is_read_by_its_owner(server: Installation, phase: Phase) -> None:
    """A file of root's in the data is for the earlier version like any other."""
    kept = server.archives()
    server.run(f"umask 077; echo secret > {ROOT}/state/of_root.txt")
    try:
        server.run("systemctl start tradekeep-backup-kalshi-daily.service")
    finally:
        server.run(f"rm {ROOT}/state/of_root.txt")
    (made,) = server.archives() - kept
    assert ("of_root" in server.run(f"{server.decrypt(made)} | tar -tzf -")) == (phase.version == "landed")


def test_backups_are_made_for_the_next_phase(server: Installation, phase: Phase) -> None:
    server.back_up(phase.name)
    server.back_up(f"{phase.name}_sealed", encrypt=True)
    server.note_rows(phase.name)
    assert server.leftovers() == ""
    said = server.host.run("tradekeep recover")
    assert "no operation was cut off" in said.stdout + said.stderr  # the earlier version says it there
