# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Every way in which a profile or its place on a host can be wrong is refused, with the key's path."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError, ExitStatus
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application, resolve_profile

BOT: dict[str, Any] = {
    "name": "my_bot",
    "root": "/opt/my_bot",
    "owner": "bot",
    "components": {"data": {"paths": ["data"], "files": [{"pattern": "data/trades.db", "required": True}]}},
}
FILE = "components.data.files[0]"


def changed(key: str, value: Any) -> dict[str, Any]:
    """The bot with one key set; ``a.b`` goes into mappings."""
    mapping = copy.deepcopy(BOT)
    *parents, last = key.split(".")
    inner = mapping
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = value
    return mapping


def refusal(definition: Any, **inputs: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        resolve_application(definition, **inputs)
    assert caught.value.exit_status is ExitStatus.USAGE
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_unchanged_bot_is_accepted() -> None:
    assert resolve_application(BOT).name == "my_bot"


@pytest.mark.parametrize(
    ("key", "value", "path", "word"),
    [
        ("ownr", "x", "ownr", "unknown key"),
        ("components.data.file_mod", "0600", "components.data.file_mod", "unknown key"),
        ("retention", {"dayly": 7}, "retention.dayly", "unknown key"),
        ("components.data.files", [{"pattern": "*", "knd": "file"}], f"{FILE}.knd", "unknown key"),
        ("components", [], "components", "a mapping"),
        ("components", {}, "components", "at least one"),
        ("components", {1: {"paths": ["a"]}}, "components.1", "a name"),
        ("components", {"a/b": {"paths": ["a"]}}, "components.a/b", "a name"),
        ("components.data", {}, "components.data.paths", "this key"),
        ("components.data", "data", "components.data", "a mapping"),
        ("components.data.paths", "data", "components.data.paths", "a list"),
        ("components.data.paths", [], "components.data.paths", "at least one"),
        ("components.data.paths", ["/data"], "components.data.paths[0]", "relative to the root"),
        ("components.data.paths", ["data/../.."], "components.data.paths[0]", ".."),
        ("components.data.paths", ["./data"], "components.data.paths[0]", ". or .."),
        ("components.data.paths", ["*/../x"], "components.data.paths[0]", ". or .."),
        ("components.data.paths", ["/*.db"], "components.data.paths[0]", "relative to the root"),
        ("components.data.paths", ["data/**"], "components.data.paths[0]", "part by part"),
        ("components.data.paths", ["data/[a"], "components.data.paths[0]", "without its ]"),
        ("components.data.paths", [".tradekeep-*"], "components.data.paths[0]", "engine's own"),
        ("components.data.directories", ["data/*"], "components.data.directories[0]", "not a pattern"),
        ("components.more", {"paths": ["*.db", "*.db"]}, "components.more.paths[1]", "once"),
        ("components.data.paths", ["data\nx"], "components.data.paths[0]", "control character"),
        ("components.data.paths", [".tradekeep-stage-1"], "components.data.paths[0]", "engine's own"),
        ("components.data.paths", ["data", "data/"], "components.data.paths[1]", "once"),
        ("components.data.directories", ["other"], "components.data.directories[0]", "beneath"),
        ("components.more", {"paths": ["data"]}, "components.more.paths[0]", "overlap"),
        ("components.more", {"paths": ["data/deep/er"]}, "components.more.paths[0]", "overlap"),
        ("components.data.file_mode", 0o600, "components.data.file_mode", "quoted octal"),
        ("components.data.file_mode", "rw-------", "components.data.file_mode", "quoted octal"),
        ("components.data.file_mode", "0800", "components.data.file_mode", "quoted octal"),
        ("components.data.file_mode", "4755", "components.data.file_mode", "quoted octal"),
        ("components.data.file_mode", "0040", "components.data.file_mode", "owner"),
        ("components.data.file_mode", "0666", "components.data.file_mode", "others"),
        ("components.data.directory_mode", "0600", "components.data.directory_mode", "owner"),
        ("components.data.secret", "yes", "components.data.secret", "true or false"),
        ("components.data.exclude", ["/abs"], "components.data.exclude[0]", "relative to the root"),
        ("components.data.exclude", ["../x"], "components.data.exclude[0]", "relative to the root"),
        ("components.data.exclude", ["a**"], "components.data.exclude[0]", "whole directories"),
        ("components.data.exclude", ["[ab"], "components.data.exclude[0]", "without its ]"),
        ("components.data.exclude", ["[z-a]"], "components.data.exclude[0]", "bad brackets"),
        ("components.data.exclude", ["*.{a,b}"], "components.data.exclude[0]", "two patterns"),
        ("components.data.exclude", ["a\\*"], "components.data.exclude[0]", "backslash"),
        ("components.data.exclude", [""], "components.data.exclude[0]", "a pattern"),
        ("components.data.files", [{"pattern": "*.db", "kind": "sqlit"}], f"{FILE}.kind", "one of"),
        ("components.data.files", [{"kind": "json"}], f"{FILE}.pattern", "this key"),
        ("components.data.files", [{"pattern": "*.db", "required": True}], f"{FILE}.pattern", "whole path"),
        ("components.data.files", [{"pattern": "x/a.db", "required": True}], f"{FILE}.pattern", "whole path"),
        ("components.data.files", [{"pattern": "*.json", "template": {}}], f"{FILE}.pattern", "whole path"),
        (
            "components.data.files",
            [{"pattern": "data/a", "template": {"x": float("nan")}}],
            f"{FILE}.template.x",
            "JSON",
        ),
        ("components.data.files", [{"pattern": "data/a", "template": {1: 2}}], f"{FILE}.template", "every key"),
        (
            "components.data.files",
            [{"pattern": "*", "secret": True, "mode": "0644"}],
            f"{FILE}.mode",
            "out of a secret",
        ),
        ("root", "relative/root", "root", "start with /"),
        ("root", "/opt/../etc", "root", ".."),
        ("root", "/opt/x\x1b[2J", "root", "control character"),
        ("root", "/", "root", "bot's own"),
        ("root", "//", "root", "bot's own"),
        ("root", "/etc", "root", "bot's own"),
        ("root", "/var/lib/", "root", "bot's own"),
        ("root", "/proc/self", "root", "bot's own"),
        ("root", "/opt/backups", "root", "outside the backup directory"),
        ("root", "/opt/backups/bot", "root", "outside the backup directory"),
        ("owner", "1000", "owner", "account"),
        ("owner", "a b", "owner", "account"),
        ("group", 100, "group", "account"),
        ("name", "../x", "name", "a name"),
        ("archive_prefix", "a/b", "archive_prefix", "a name"),
        ("services", {"manager": "systemd"}, "services", "a list"),
        ("services", [{"units": ["a.service"]}], "services[0].manager", "this key"),
        ("services", [{"manager": "openrc", "units": ["a"]}], "services[0].manager", "one of"),
        ("services", [{"manager": "systemd"}], "services[0].units", "units"),
        ("services", [{"manager": "none", "units": ["a"]}], "services[0].units", "no units"),
        ("services", [{"manager": "systemd", "units": ["-f x"]}], "services[0].units[0]", "unit"),
        (
            "services",
            [{"manager": "systemd", "units": ["a"], "supervisor_config": "/a"}],
            "services[0].supervisor_config",
            "only with manager supervisor",
        ),
        ("schedules", [{"tier": "hourly", "calendar": "daily"}], "schedules[0].tier", "one of"),
        ("schedules", [{"tier": "manual", "calendar": "daily"}], "schedules[0].tier", "one of"),
        ("schedules", [{"tier": "daily", "calendar": "at noon"}], "schedules[0].calendar", "OnCalendar"),
        ("schedules", [{"tier": "daily", "calendar": "25:00"}], "schedules[0].calendar", "hours"),
        ("schedules", [{"tier": "daily", "calendar": "UTC"}], "schedules[0].calendar", "OnCalendar"),
        ("schedules", [{"tier": "daily"}], "schedules[0].calendar", "this key"),
        ("schedules", [{"tier": "daily", "calendar": "daily"}] * 2, "schedules[1]", "once"),
        (
            "schedules",
            [{"tier": "daily", "calendar": "daily"}, {"tier": "daily", "calendar": "12:00"}],
            "schedules[1].tier",
            "one schedule for each tier",
        ),
        ("retention", {"daily": -1}, "retention.daily", "from 0"),
        ("retention", {"daily": "7"}, "retention.daily", "a whole number"),
        ("retention", {"daily": True}, "retention.daily", "a whole number"),
        ("retention", {"daily": 1.5}, "retention.daily", "a whole number"),
        ("compression", "xz", "compression", "one of"),
        ("check_level", "deep", "check_level", "one of"),
        ("full_check_tiers", ["yearly"], "full_check_tiers[0]", "one of"),
        ("maximum_row_loss_percent", 101, "maximum_row_loss_percent", "to 100"),
        ("description", 7, "description", "text"),
        ("description", "a\nExecStart=/bin/sh", "description", "one line"),
        ("extends", "kalsi", "extends", "built-in"),
        ("extends", ["kalshi"], "extends", "built-in"),
        ("components.nothing", None, "components.nothing", "there to be removed"),
    ],
)
def test_each_wrong_key_is_refused_by_its_path(key: str, value: Any, path: str, word: str) -> None:
    error = refusal(changed(key, value))
    assert error.path == path
    assert word in error.message


@pytest.mark.parametrize("missing", ["root", "owner", "name"])
def test_what_a_host_needs_must_be_given(missing: str) -> None:
    definition = {key: value for key, value in BOT.items() if key != missing}
    assert refusal(definition).path == missing


def test_without_the_system_no_account_is_needed() -> None:
    definition = {key: value for key, value in BOT.items() if key != "owner"}
    assert resolve_application(definition, become=False).system is False


def test_the_hints_name_the_way_out() -> None:
    assert "did you mean file_mode?" in str(refusal(changed("components.data.file_mod", "0600")))
    assert "did you mean kalshi?" in str(refusal("kalsi"))
    assert "quote it" in str(refusal(changed("components.data.file_mode", 384)))
    assert "did you mean state?" in str(refusal({"extends": "kalshi", "components": {"stat": None}}))


def test_a_definition_that_is_neither_name_nor_mapping_is_refused() -> None:
    assert refusal(["kalshi"]).path == "profile"
    assert refusal(7).path == "profile"


@pytest.mark.parametrize("key", ["backup_dir", "config_dir", "state_dir", "bin_dir"])
def test_own_directories_inside_the_data_are_refused(key: str) -> None:
    assert refusal(BOT, **{key: "/opt/my_bot/data"}).path == key
    assert refusal(BOT, **{key: "/opt/my_bot/data/deep"}).path == key
    assert refusal(BOT, **{key: "/proc/x"}).path == key
    assert refusal(BOT, **{key: "relative"}).path == key
    resolve_application(BOT, **{key: "/opt/my_bot/other"})


def test_an_excluded_backup_directory_inside_a_component_is_accepted() -> None:
    definition = changed("components.data.exclude", ["data/backups"])
    assert str(resolve_application(definition, backup_dir="/opt/my_bot/data/backups").backup_dir).endswith("backups")
    assert refusal(definition, backup_dir="/opt/my_bot/data/backup").path == "backup_dir"


def test_a_backup_directory_around_a_component_is_refused() -> None:
    definition = changed("components.data", {"paths": ["keep/data"]})
    assert refusal(definition, backup_dir="/opt/my_bot/keep").path == "backup_dir"


def test_both_recipients_and_passphrase_are_refused() -> None:
    error = refusal(BOT, gpg_recipients=("A" * 40,), passphrase_file="/etc/tradekeep/passphrase")
    assert error.path == "encryption"
    assert "found both" in error.message


@pytest.mark.parametrize("recipient", ["DEADBEEF", "0x" + "A" * 16, "me@example.org", "keys/me.asc", "A" * 41])
def test_a_recipient_that_can_be_forged_is_refused(recipient: str) -> None:
    assert refusal(BOT, gpg_recipients=(recipient,)).path == "gpg_recipients[0]"


def test_a_passphrase_given_instead_of_its_file_is_not_repeated() -> None:
    error = refusal(BOT, passphrase_file="correct horse battery staple")
    assert error.path == "passphrase_file"
    assert "horse" not in str(error)


def test_a_template_is_never_repeated_in_an_error() -> None:
    definition = changed("components.data.files", [{"pattern": "data/a", "template": {"key": {"hunter2"}}}])
    assert "hunter2" not in str(refusal(definition))


def test_required_encryption_without_a_key_is_refused() -> None:
    definition = changed("components.data.require_encryption", True)
    assert refusal(definition).path == "components.data.require_encryption"
    resolve_application(definition, passphrase_file="/etc/tradekeep/passphrase")
    definition["components"]["data"]["backup"] = False
    assert refusal(definition).path == "components.data.require_encryption"


def test_a_secret_component_may_not_be_readable_by_others() -> None:
    definition = changed("components.data.secret", True)
    definition["components"]["data"]["file_mode"] = "0644"
    assert refusal(definition).path == "components.data.file_mode"


def test_an_app_name_that_leaves_its_directory_is_refused() -> None:
    assert refusal(BOT, app="../evil").path == "app"


def test_a_mapping_without_a_name_takes_that_of_the_application() -> None:
    nameless = {key: value for key, value in BOT.items() if key != "name"}
    assert resolve_application(nameless, app="second").profile.name == "second"
    with pytest.raises(ConfigurationError):
        resolve_profile(nameless)
