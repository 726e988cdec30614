#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an application needs of its host before anything else is put there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prerequisites
short_description: Look whether a host is ready for an application, and make its account
version_added: 0.1.0
description:
  - Looks at everything at once that an application needs of its host. Where anything is wrong, all of it is named and
    nothing is made.
  - Makes the group and the account of the application where they are missing, for a service that nobody logs in as.
    One that exists is never changed, neither its shell nor its home nor its groups.
  - Says which packages are missing, and installs none.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.definition
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
options:
  accounts:
    description: Whether the account and its group are made. With V(false) they must be there.
    type: bool
    default: true
  packages:
    description: Debian packages that are needed beyond those of backups and deploys.
    type: list
    elements: str
    default: []
  files:
    description: Files that will be put on the host.
    type: list
    elements: dict
    default: []
    suboptions:
      dest:
        description: Absolute path of the file.
        type: str
        required: true
      owner:
        description: Who will own it.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
  brought:
    description: Files with keys and passphrases that the definition names and that will be put on the host.
    type: list
    elements: str
    default: []
  existing:
    description: Files that must be on the host.
    type: list
    elements: str
    default: []
  space:
    description: Bytes that will be put below O(root).
    type: int
    default: 0
  code:
    description: Whether the code has to be fetched, for which a repository that is reached over ssh needs keys.
    type: bool
    default: false
  unit_files:
    description: Units of the bot's own that will be installed, as the option O(tradekeep.ops.units#module:unit_files).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the unit.
        type: str
        required: true
      content:
        description: The unit, in Base64.
        type: str
        required: true
      replace:
        description: Take the place of one that somebody else put there.
        type: bool
        default: false
  take_over:
    description: Whether data that belongs to another account than O(owner) is to be taken over. Else it is refused.
    type: bool
    default: false
  unit_dir:
    description: Directory of O(unit_files).
    type: path
    default: /etc/systemd/system
seealso:
  - module: tradekeep.ops.tree
"""

EXAMPLES = r"""
- name: Make the account of a built-in profile
  tradekeep.ops.prerequisites:
    profile: kalshi
  register: host

- name: Install what it needs
  ansible.builtin.apt:
    name: "{{ host.record.packages }}"
  when: host.record.packages | length > 0
"""

RETURN = r"""
record:
  description:
    - C(account) and C(group) with C(name) and C(missing), which tells how it was before. C(packages) and
      C(optional_packages) that are missing, by name. C(directories) of O(files) that are missing. C(problems).
  returned: always
  type: dict
exit_status:
  description: V(0) is success, V(2) means that something is not as it has to be and that nothing was made.
  returned: always
  type: int
  sample: 0
error:
  description: What went wrong, with C(message), C(path), C(hint) and C(exit_status).
  returned: failure, unless the operation ended and found problems
  type: dict
  sample:
    message: another run holds the lock
    path: /var/lib/tradekeep/kalshi/lock
    hint: wait for it to end
    exit_status: 3
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.arguments import UNIT_FILES, definition_spec
from ..module_utils.core.operations.prerequisites import ExpectedFile, Wanted, prepare_host
from ..module_utils.core.ports import Ports
from ..module_utils.definition import application_on_host, unit_files_of
from ..module_utils.door import Answer, answer, serve

NAMES: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
FILES: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "dest": {"type": "str", "required": True},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
    },
}
SPEC = definition_spec(
    accounts={"type": "bool", "default": True},
    packages=NAMES,
    files=FILES,
    brought=NAMES,
    existing=NAMES,
    space={"type": "int", "default": 0},
    code={"type": "bool", "default": False},
    take_over={"type": "bool", "default": False},
    unit_files=UNIT_FILES,
    unit_dir={"type": "path", "default": "/etc/systemd/system"},
)


def run(module: Any, ports: Ports) -> Answer:
    """Look, and make the account where all is well."""
    params = module.params
    wanted = Wanted(
        accounts=params["accounts"],
        packages=tuple(params["packages"]),
        files=tuple(ExpectedFile(item["dest"], item["owner"], item["group"]) for item in params["files"]),
        brought=tuple(params["brought"]),
        existing=tuple(params["existing"]),
        space=params["space"],
        code=params["code"],
        take_over=params["take_over"],
        units=unit_files_of(params["unit_files"]),
        unit_dir=params["unit_dir"],
    )
    return answer(prepare_host(application_on_host(params), ports, wanted, dry_run=module.check_mode))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
