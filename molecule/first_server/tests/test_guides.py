# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The guides, word by word, on a Debian that has next to nothing. The tests are one story, in this order."""

from __future__ import annotations

import re
import shlex

from guide import SERVER, TOP, Desk, commands, files
from testinfra.host import Host

FIRST = "first-server.md"
PRIVATE = "private-repository.md"
BAD_DAY = "restore-on-a-bad-day.md"
LATER = "a-year-later.md"
ROOT = "/opt/trading_system/user_data"
REPOSITORY = "https://git.example.com/me/trading_system.git"
UPSTREAM = "/srv/upstream/trading_system.git"
UNIT = "trading_system.service"
PUSH = f"""
set -e
mkdir -p {UPSTREAM}
cd {UPSTREAM}
git init -q --initial-branch=main .
printf 'import time\n\nwhile True:\n    time.sleep(1)\n' > main.py
git add .
git -c user.name=me -c user.email=me@example.com commit -qm Trade
chown -R trading_user: {UPSTREAM}
"""
# The forge is this server too.
FORGE = """
set -e
useradd --home-dir /srv/upstream --shell /bin/sh --password '*' git
install -d -m 0700 -o git -g git /srv/upstream/.ssh
echo "127.0.0.1 git.example.com" >> /etc/hosts
"""
MORE = f"""
cd {UPSTREAM}
chown -R root: .
echo '# newer' >> main.py
git -c user.name=me -c user.email=me@example.com commit -qam More
chown -R git: .
cat /etc/ssh/ssh_host_ed25519_key.pub
"""
PREFERENCES = f"{ROOT}/preferences/trading/trade_preferences.json"


def test_server_is_bare(host: Host) -> None:
    for program in ("gpg", "igzip", "supervisorctl", "rsync"):
        assert not host.exists(program), program


def test_a_key_and_an_inventory(desk: Desk) -> None:
    desk.follow(FIRST, "1. A key to encrypt to")
    desk.run("for name in kalshi-demo.pem kalshi.pem kalshi-auth.txt; do echo not-a-real-key > ~/safe/$name; done")
    assert "BEGIN PGP PUBLIC KEY" in desk.run("cat inventories/mine/keys/operator.asc")
    assert "BEGIN PGP PRIVATE KEY" in desk.run("cat ~/safe/operator-secret.asc")
    inventory, unit = files(FIRST)
    for name, content in files(FIRST).items():
        (desk.checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (desk.checkout / name).write_text(content)
    content = files(FIRST)[inventory]
    assert SERVER in content and REPOSITORY in content and f"units: [{UNIT}]" in content and unit.endswith(UNIT)
    content = content.replace(REPOSITORY, f"file://{UPSTREAM}")
    (desk.checkout / inventory).write_text(content.replace(f"units: [{UNIT}]", f"units: [{UNIT}], stay_up_seconds: 1"))


def test_look_then_do(host: Host, desk: Desk) -> None:
    """The packages come by apt; a second run changes nothing."""
    said = list(desk.follow(FIRST, "3. Look, then do").items())
    assert "--check" in said[0][0]
    assert "Install the packages that are missing" in said[1][1]
    assert host.exists("gpg")
    assert host.exists("igzip")
    assert re.search(r"changed=0 .*failed=0", desk.run(said[1][0]))
    key = host.file(f"{ROOT}/credentials/kalshi/prod/kalshi.pem")
    assert (key.user, key.mode, key.content_string) == ("trading_user", 0o600, "not-a-real-key\n")


def test_check_mode_on_a_fresh_server_wrote_nothing(host: Host) -> None:
    """What the first of the two runs did not do was left to the second: apt's log knows of one installation only."""
    log = host.file("/var/log/apt/history.log").content_string
    assert len(re.findall(r"^Install: .*\bgnupg:", log, re.MULTILINE)) == 1


def test_first_backup_and_its_proof(host: Host, desk: Desk) -> None:
    said = desk.follow(FIRST, "4. The first backup, and the proof", statuses=(0, 1))
    listed = next(text for command, text in said.items() if "list-timers" in command)
    assert "tradekeep-backup-kalshi-daily.timer" in listed
    assert host.file("/root/look/credentials/kalshi/prod/kalshi.pem").mode == 0o600
    host.check_output("rm -r /root/look")


def test_the_guide_ends_with_a_running_bot(host: Host, desk: Desk) -> None:
    """`site` installed and enabled its unit, and started nothing; the first deploy does."""
    assert host.file(f"/etc/systemd/system/{UNIT}").mode == 0o644
    assert host.check_output("systemctl show -P UnitFileState %s", UNIT) == "enabled"
    assert not host.service(UNIT).is_running
    desk.on_server(PUSH)
    desk.follow(FIRST, "5. The bot", statuses=(0, 1))
    assert host.check_output("systemctl show -P User %s", UNIT) == "trading_user"
    assert host.service(UNIT).is_running


def test_a_private_repository(host: Host, desk: Desk) -> None:
    """Key, known host and inventory as the guide has them; what is missing is one sentence, and nothing changes."""
    desk.follow(PRIVATE, "1. A key that can only read")
    forge = desk.on_server(FORGE + MORE)
    (desk.home / ".ssh/known_hosts").write_text(f"git.example.com {forge.splitlines()[-1]}\n")
    desk.follow(PRIVATE, "2. The key of the forge")
    ((name, content),) = files(PRIVATE).items()
    (desk.checkout / name).parent.mkdir()
    (desk.checkout / name).write_text(content.replace(f"units: [{UNIT}]", f"units: [{UNIT}], stay_up_seconds: 1"))
    site, *bring = [command.text for command in commands(PRIVATE, "3. The inventory")]
    code = host.check_output("cat /opt/trading_system/main.py")
    dry_run = "tradekeep deploy main --dry-run 2>&1"
    assert "the ssh key that the code is fetched with is not on the host" in re.sub(r"\s+", " ", desk.run(site))
    assert "deploy_key: the ssh key that the code is fetched with is not on the host" in desk.on_server(dry_run, (2,))
    for command in bring:
        desk.run(command)
    (said,) = desk.on_server(dry_run, (3,)).splitlines()
    assert "git@git.example.com:me/trading_system.git: the server refused the login" in said
    assert host.check_output("cat /opt/trading_system/main.py") == code
    public = desk.run("cat ~/safe/deploy_key.pub").strip()
    (line,) = re.findall("(?m)^restrict,.*$", (TOP / "docs" / PRIVATE).read_text())
    line = line.replace("ssh-ed25519 AAAA... deploy key of bot1", public).replace(
        "/srv/git/trading_system.git", UPSTREAM
    )
    desk.on_server(f"echo {shlex.quote(line)} > /srv/upstream/.ssh/authorized_keys")
    desk.follow(PRIVATE, "4. Deploy")
    assert "newer" in host.check_output("cat /opt/trading_system/main.py")
    # The key reads this repository, and that is all.
    login = (
        "runuser -u trading_user -- ssh -i /etc/tradekeep/deploy_key -o UserKnownHostsFile=/etc/tradekeep/known_hosts"
    )
    assert "refs/heads/main" in desk.on_server(f"{login} git@git.example.com id < /dev/null 2>&1", (0, 128, 141))


def test_away_from_the_server(desk: Desk) -> None:
    desk.follow(FIRST, "6. Away from the server")
    archives = desk.run("ls ~/backups/bot1")
    assert "_first.tar.gz" in archives


def test_bad_day_look_and_restore(host: Host, desk: Desk) -> None:
    """Damage, the whole chapter of looks, and the restore."""
    good = host.file(PREFERENCES).content_string
    host.check_output("printf '{' > %s && rm %s", PREFERENCES, f"{ROOT}/credentials/kalshi/prod/kalshi.pem")
    dry = desk.follow(BAD_DAY, "First: look", statuses=(0, 1))
    assert "trade_preferences.json" in dry[next(text for text in dry if "--dry-run" in text)]
    desk.follow(BAD_DAY, "All of it")
    assert host.file(PREFERENCES).content_string == good
    assert host.file(f"{ROOT}/credentials/kalshi/prod/kalshi.pem").mode == 0o600


def test_bad_day_it_was_the_wrong_one(host: Host, desk: Desk) -> None:
    desk.follow(BAD_DAY, "It was the wrong one")
    assert host.file(PREFERENCES).content_string == "{"


def test_bad_day_a_part_of_it(host: Host, desk: Desk) -> None:
    write = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('CREATE TABLE fills (n)'); c.commit()"
    database = f"{ROOT}/databases/accounts/kalshi/demo/fills.db"
    host.check_output("runuser -u trading_user -- python3 -c %s %s", write, database)
    host.check_output("tradekeep backup --name parts && printf '{' > %s && rm %s", PREFERENCES, database)
    desk.follow(BAD_DAY, "A part of it")
    assert host.file("/root/look/databases/accounts/kalshi/demo/fills.db").exists
    assert host.file(database).mode == 0o600


def test_bad_day_encrypted(host: Host, desk: Desk) -> None:
    """The person's key goes to the server for this one restore, with a file of what opens the key."""
    host.check_output("echo '{\"kept\": true}' > %s && tradekeep backup --encrypt --name sealed", PREFERENCES)
    name = host.check_output("ls /opt/backups | grep 'sealed.tar.gz.gpg$'")
    host.check_output("printf '{' > %s", PREFERENCES)
    plain = name.removesuffix(".gpg")
    passphrase = desk.home / "safe/passphrase"
    passphrase.write_text("''\n")  # as gpg reads it in the settings of the desk
    passphrase.chmod(0o600)
    given = "restore_key_on_controller=~/safe/operator-secret.asc"
    more = f"{given} -e restore_passphrase_on_controller=~/safe/passphrase"
    desk.follow(BAD_DAY, "Encrypted backups", {"user_data_20261122_030012.tar.gz": plain, given: more})
    assert host.file(PREFERENCES).content_string == '{"kept": true}\n'
    assert not host.file(f"/root/{plain}").exists


def test_bad_day_archives_of_the_old_scripts(host: Host, desk: Desk) -> None:
    old = "user_data_20250728_143022"
    host.check_output(
        f"mkdir -m 0700 /opt/backups/old && cd /opt/trading_system && "
        f"tar -czf /opt/backups/old/{old}.tar.gz --transform=s,^user_data,{old}/user_data, user_data"
    )
    desk.follow(BAD_DAY, "Archives of the old scripts")


def test_bad_day_after_a_crash(desk: Desk) -> None:
    desk.follow(BAD_DAY, "After a crash")


def test_a_year_later_now_and_then(desk: Desk) -> None:
    """Nothing is due but the older failures of this story."""
    said = desk.follow(LATER, "Now and then", statuses=(0, 1))
    assert "last good backup" in said["tradekeep"]
    assert re.search(r"drill_of_all|passed", next(text for command, text in said.items() if "ops.drill" in command))


def test_a_year_later_a_new_key(host: Host, desk: Desk) -> None:
    """The server's own key is made anew by the next `site`; what was made before opens with the person's."""
    digests = "sha256sum /var/lib/tradekeep/.host-keys/kalshi/*"
    before = host.check_output(digests).splitlines()
    desk.follow(LATER, "A new key")
    desk.follow(FIRST, "3. Look, then do")
    after = host.check_output(digests).splitlines()
    assert len(after) == len(before) and not set(after) & set(before)
    assert host.run("tradekeep backup --name with-the-new-key").rc == 0


def test_a_year_later_a_bot_is_given_up(host: Host, desk: Desk) -> None:
    """Timers and configuration go; data, backups and records stay."""
    desk.follow(LATER, "A bot is given up", {"bot1_freqtrade": SERVER, "profile=freqtrade": "profile=kalshi"})
    assert "tradekeep" not in host.check_output("systemctl list-unit-files --type=timer --no-legend")
    assert not host.file("/etc/tradekeep/kalshi.json").exists
    assert host.file(PREFERENCES).exists and host.file("/var/lib/tradekeep/kalshi").is_directory
    assert "_last.tar.gz" in desk.run("ls ~/backups/bot1")
