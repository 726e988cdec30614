#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The upkeep of live databases."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sqlite_optimize
short_description: Optimize live SQLite databases
version_added: 0.1.0
description:
  - Runs C(ANALYZE) and C(VACUUM) on live databases of an application, where there is enough free space for
    them.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: none
    details: Each run writes anew those databases in which that numbers no row anew.
  platform:
    platforms: linux
options:
  paths:
    description: Databases, relative to the root of the application. All of its databases by default.
    type: list
    elements: str
    default: []
seealso:
  - module: tradekeep.ops.sqlite_integrity
"""

EXAMPLES = r"""
- name: Give unused pages back to the filesystem
  tradekeep.ops.sqlite_optimize:
    app: kalshi
    paths:
      - trade_history/trades.db
"""

RETURN = r"""
record:
  description: The databases, and their sizes before and after.
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
from ..module_utils.core.operations.databases import optimize_databases
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(paths={"type": "list", "elements": "str", "default": []})


def run(module: Any, ports: Ports) -> Answer:
    """Optimize the databases."""
    params = module.params
    return answer(
        optimize_databases(
            configured_application(params),
            ports,
            paths=tuple(params["paths"]),
            dry_run=module.check_mode,
        )
    )


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
