#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A backup that is no longer kept for its name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_release
short_description: Let retention decide about a named backup
version_added: 0.1.0
description:
  - A named backup, such as the one that a restore makes of what it replaces, is never pruned. Once it is released,
    M(tradekeep.ops.prune) decides about it as about any other. The backup itself is not touched.
  - The last backup before a loss, which M(tradekeep.ops.prune) keeps and names, is let go of in the same way.
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
  backup:
    description: The name that the backup was given, its file name, or its path.
    type: str
    required: true
seealso:
  - module: tradekeep.ops.backup
  - module: tradekeep.ops.prune
"""

EXAMPLES = r"""
- name: The upgrade went well; its backup needs no keeping
  tradekeep.ops.backup_release:
    app: kalshi
    backup: before_upgrade
"""

RETURN = r"""
record:
  description: The backup and what becomes of it.
  returned: always
  type: dict
  contains:
    backup:
      description: File name of the backup.
      returned: success
      type: str
    pinned:
      description: Whether it is kept for its name. Only in check mode can it be true.
      returned: success
      type: bool
    keep:
      description: Whether retention keeps it once it is released.
      returned: success
      type: bool
    reasons:
      description: Why it is kept or removed.
      returned: success
      type: list
      elements: str
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
from ..module_utils.core.operations.release import release
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(backup={"type": "str", "required": True})


def run(module: Any, ports: Ports) -> Answer:
    """Release one backup."""
    return answer(
        release(
            configured_application(module.params),
            ports,
            reference=module.params["backup"],
            dry_run=module.check_mode,
        )
    )


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
