#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The health of live databases."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sqlite_integrity
short_description: Check live SQLite databases
version_added: 0.1.0
description:
  - Checks live databases of an application without writing to them. Looks at their integrity, the state of the
    write-ahead log, and the rows of each table.
  - No sidecar file is left behind, and no owner or mode is changed.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
attributes:
  check_mode:
    support: full
    details: Nothing is ever written.
  diff_mode:
    support: N/A
    details: Nothing is ever written.
  idempotent:
    support: full
  platform:
    platforms: linux
options:
  paths:
    description: Databases, relative to the root of the application. All of its databases by default.
    type: list
    elements: str
    default: []
  level:
    description: How thoroughly to check. V(quick) does not compare indexes with their tables and is much faster.
    type: str
    choices: [quick, full]
    default: quick
  foreign_keys:
    description: Also look for rows whose parents are missing.
    type: bool
    default: false
seealso:
  - module: tradekeep.ops.sqlite_optimize
"""

EXAMPLES = r"""
- name: Check every database
  tradekeep.ops.sqlite_integrity:
    app: kalshi
    level: full
    foreign_keys: true
"""

RETURN = r"""
record:
  description: The databases and what was found in each.
  returned: always
  type: dict
exit_status:
  description: The exit status that the C(tradekeep) command gives for the same outcome. V(0) is success.
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

from ..module_utils.arguments import configured_spec
from ..module_utils.core.application import CheckLevel
from ..module_utils.core.operations.databases import check_databases
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(
    paths={"type": "list", "elements": "str", "default": []},
    level={"type": "str", "choices": [level.value for level in CheckLevel], "default": CheckLevel.QUICK.value},
    foreign_keys={"type": "bool", "default": False},
)


def run(module: Any, ports: Ports) -> Answer:
    """Check the databases."""
    params = module.params
    return answer(
        check_databases(
            configured_application(params),
            ports,
            paths=tuple(params["paths"]),
            level=CheckLevel(params["level"]),
            foreign_keys=params["foreign_keys"],
        )
    )


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
