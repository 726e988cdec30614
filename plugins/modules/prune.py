#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The retention of backups."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prune
short_description: Remove backups that the retention rules do not keep
version_added: 0.1.0
description:
  - Removes backups by the retention rules of the profile. Named backups are never removed, nor is the last good
    one.
  - The record gives the reason of each decision.
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
  trust_clock:
    description:
      - That the clock is right, although it went back, or jumped forward by weeks, since the last prune.
      - Without it nothing is removed then. A backup that is merely dated in the future is kept, reported and not
        counted.
    type: bool
    default: false
seealso:
  - module: tradekeep.ops.backup_info
"""

EXAMPLES = r"""
- name: Remove old backups
  tradekeep.ops.prune:
    app: kalshi
"""

RETURN = r"""
record:
  description: Each backup with the decision on it and its reasons.
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
from ..module_utils.core.operations.prune import prune
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(trust_clock={"type": "bool", "default": False})


def run(module: Any, ports: Ports) -> Answer:
    """Prune."""
    application = configured_application(module.params)
    return answer(
        prune(application, ports, dry_run=module.check_mode, trust_clock=module.params["trust_clock"]),
    )


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
