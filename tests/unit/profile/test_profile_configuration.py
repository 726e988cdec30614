# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The configuration file: which one is read, and every way in which it can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import (
    application_as_dict,
    configured_names,
    load_application,
    parse_configuration,
    render_configuration,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import ConfigurationError, UsageError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application


def document() -> dict[str, Any]:
    return application_as_dict(resolve_application("kalshi"))


def install(directory: Path, *names: str) -> None:
    for name in names:
        text = render_configuration(resolve_application("kalshi", app=name, config_dir=str(directory)))
        (directory / f"{name}.json").write_text(text)


def refusal(text: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(text if isinstance(text, (str, bytes)) else json.dumps(text), path="/etc/x.json")
    assert "/etc/x.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_newer_version_is_refused() -> None:
    error = refusal({**document(), "version": 2})
    assert "made by a newer tradekeep" in error.message
    assert error.path == "/etc/x.json: version"


@pytest.mark.parametrize("version", [None, "1", True, 0, 1.0])
def test_a_version_that_is_none_is_refused(version: Any) -> None:
    assert refusal({**document(), "version": version}).path == "/etc/x.json: version"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": NaN}', b"\xff\xfe\xfa", "[" * 100_000, '{"a":1,"a":2}'])
def test_what_is_not_a_configuration_is_refused(text: Any) -> None:
    refusal(text)


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        (("extra",), 1, "extra"),
        (("application", "roots"), "/x", "application.roots"),
        (("application", "root"), "/", "application.root"),
        (("application", "root"), None, "application.root"),
        (("application", "backup_dir"), "/opt/trading_system/user_data/state", "application.backup_dir"),
        (("application", "system"), "no", "application.system"),
        (("application", "encryption"), {"recipients": ["A" * 40], "passphrase_file": "/p"}, "application.encryption"),
        (("application", "encryption"), {"recipients": ["short"]}, "application.encryption.recipients[0]"),
        (("profile",), "kalshi", "profile"),
        (("profile", "components", "state", "file_mode"), 420, "profile.components.state.file_mode"),
        (("profile", "compresion"), "gzip", "profile.compresion"),
    ],
)
def test_each_wrong_key_is_refused_by_its_path_in_the_file(path: tuple[str, ...], value: Any, key: str) -> None:
    changed = document()
    inner = changed
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    assert refusal(changed).path == f"/etc/x.json: {key}"


def test_the_text_is_stable_and_ends_in_one_newline() -> None:
    text = render_configuration(resolve_application("kalshi"))
    assert text.endswith("}\n")
    assert json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n" == text


def test_the_only_application_is_found_without_its_name(tmp_path: Path) -> None:
    install(tmp_path, "one")
    (tmp_path / ".one.json").write_text("left over")
    (tmp_path / "notes.txt").write_text("not ours")
    assert load_application(config_dir=str(tmp_path)).name == "one"
    assert load_application(config_dir="/nowhere", config_file=str(tmp_path / "one.json")).name == "one"


def test_several_applications_ask_for_a_name(tmp_path: Path) -> None:
    install(tmp_path, "one", "two")
    assert configured_names(str(tmp_path)) == ("one", "two")
    with pytest.raises(UsageError, match="--app one or two"):
        load_application(config_dir=str(tmp_path))
    assert load_application(app="two", config_dir=str(tmp_path)).name == "two"


def test_names_that_are_not_configured_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no application is configured"):
        load_application(config_dir=str(tmp_path / "missing"))
    install(tmp_path, "kalshi")
    with pytest.raises(UsageError, match="did you mean kalshi"):
        load_application(app="kalsi", config_dir=str(tmp_path))
    with pytest.raises(UsageError, match="expected the name"):
        load_application(app="../kalshi", config_dir=str(tmp_path))


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_application(config_file=str(tmp_path / "missing.json"))
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_application(config_file=str(tmp_path))
