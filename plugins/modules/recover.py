#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a crash left behind."""

from __future__ import annotations

DOCUMENTATION = r"""
module: recover
short_description: Finish or undo an interrupted operation
version_added: 0.1.0
description:
  - Finishes or undoes what a crash, a power loss or a kill left of a restore, starts the services again, and
    says which state the data is in and what the health checks of C(deploy.health) find.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
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
  force:
    description:
      - Go on although a process that no service of the profile owns has data of the application open for writing.
        It loses what it writes into files that are replaced.
      - Without it such a process, named with its number and the file, ends the operation with nothing changed.
    type: bool
    default: false
seealso:
  - module: tradekeep.ops.restore
"""

EXAMPLES = r"""
- name: Put things right after a crash
  tradekeep.ops.recover:
    app: kalshi
"""

RETURN = r"""
record:
  description: What was found and what was done.
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
from ..module_utils.core.operations.recover import recover
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(force={"type": "bool", "default": False})


def run(module: Any, ports: Ports) -> Answer:
    """Recover."""
    params = module.params
    return answer(recover(configured_application(params), ports, dry_run=module.check_mode, force=params["force"]))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
