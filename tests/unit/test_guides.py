# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Each command in the documentation is one that exists, with options that exist, and says where it is typed.

What the commands do is shown where guides are followed: molecule/first_server, molecule/recover_server, tests/plays.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.command_line import build_parser

yaml = pytest.importorskip("yaml", reason="comes with ansible-core, which this Python does not run")

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted([TOP / "README.md", *(TOP / "docs").glob("*.md"), *TOP.glob("roles/*/README.md")])
BLOCK = re.compile(r"^ *```(?:console|sh|bash)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^ *([$#]) (.+?)(?:  +# .*)?$", re.MULTILINE)
HERE = {"demo.md"}
"""Where the reader's own machine is the server as well."""


def commands() -> list[tuple[str, str, list[str]]]:
    """Page, sign and words of each command."""
    return [
        (page.relative_to(TOP).as_posix(), sign, shlex.split(line))
        for page in PAGES
        for block in BLOCK.findall(page.read_text(encoding="utf-8"))
        for sign, line in COMMAND.findall(block)
    ]


FOUND = commands()
OF_THE_COMMAND = [
    (page, words[words.index("tradekeep") + 1 :]) for page, _sign, words in FOUND if "tradekeep" in words[:2]
]
PLAYS = [(page, words[1:]) for page, _sign, words in FOUND if words[0] == "ansible-playbook"]
MODULES = [(page, words) for page, _sign, words in FOUND if words[0] == "ansible"]


def inputs() -> set[str]:
    """The variables that roles and playbooks take."""
    names: set[str] = set()
    for specs in TOP.glob("roles/*/meta/argument_specs.yml"):
        entries = yaml.safe_load(specs.read_text())["argument_specs"].values()
        names.update(name for entry in entries for name in entry.get("options") or {})
    for playbook in TOP.glob("playbooks/*.yml"):
        names.update(re.findall(r"\b[a-z]+_[a-z_]+", playbook.read_text()))
    for defaults in TOP.glob("roles/*/defaults/main.yml"):
        names.update(re.findall(r"\btradekeep_[a-z_]+", defaults.read_text()))
    return names


def test_there_are_commands_to_look_at() -> None:
    assert len(OF_THE_COMMAND) > 40 and len(PLAYS) > 25 and MODULES


@pytest.mark.parametrize(("page", "words"), OF_THE_COMMAND)
def test_a_command_on_the_server_can_be_typed_as_it_stands(page: str, words: list[str]) -> None:
    build_parser(config_dir="/etc/tradekeep", version="1").parse_args(words)


@pytest.mark.parametrize(("page", "words"), PLAYS)
def test_a_playbook_and_its_inputs_exist(page: str, words: list[str]) -> None:
    name = next(word for word in words if not word.startswith("-"))
    assert (TOP / "playbooks" / f"{name.removeprefix('tradekeep.ops.')}.yml").is_file(), name
    given = [words[number + 1] for number, word in enumerate(words) if word == "-e"]
    keys = {key for item in given for key in [item.partition("=")[0]] if not key.startswith("ansible_")}
    assert keys <= inputs()


@pytest.mark.parametrize(("page", "words"), MODULES)
def test_a_module_and_its_options_exist(page: str, words: list[str]) -> None:
    module = words[words.index("-m") + 1]
    if not module.startswith("tradekeep.ops."):
        return
    source = (TOP / "plugins/modules" / f"{module.rpartition('.')[2]}.py").read_text()
    given = {item.partition("=")[0] for item in shlex.split(words[words.index("-a") + 1])}
    documented = set(yaml.safe_load(re.search(r'DOCUMENTATION = r"""(.*?)"""', source, re.DOTALL)[1])["options"])
    shared = "".join(path.read_text() for path in (TOP / "plugins/doc_fragments").glob("*.py"))
    assert all(name in documented or re.search(rf"^  {name}:", shared, re.MULTILINE) for name in given)


@pytest.mark.parametrize("page", sorted({page for page, _sign, _words in FOUND}))
def test_a_dollar_is_the_controller_and_a_hash_the_server(page: str) -> None:
    if Path(page).name in HERE:
        return
    signs = {words[0]: sign for name, sign, words in FOUND if name == page}
    assert signs.get("ansible-playbook", "$") == "$" and signs.get("ansible", "$") == "$"
    assert signs.get("tradekeep", "#") == "#" and "sudo" not in signs and signs.get("systemctl", "#") == "#"
