#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Another name or other places of an application."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rename
short_description: Take along what an application has on a host when its name or places change
version_added: 0.1.0
description:
  - Compares the definition with the configuration that the host has, under the same name or the one in O(former), and
    takes along what belongs to the application there. Backups move to the new backup directory, or their sidecars are
    told the new name. Records move to the new state directory. The configuration is written, and that of the old name
    and its units are removed.
  - Data is never moved. Where the root changes, move it before, with the bot stopped.
  - What was cut off is finished by running it again. Install the units of the new name with M(tradekeep.ops.units)
    afterwards, as the playbook C(tradekeep.ops.rename) does.
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
  former:
    description: Name of the application until now, where that is another one.
    type: str
    default: ""
  unit_dir:
    description: Directory that its units are in.
    type: path
    default: /etc/systemd/system
seealso:
  - module: tradekeep.ops.configuration
  - module: tradekeep.ops.units
"""

EXAMPLES = r"""
- name: Call the application by its new name
  tradekeep.ops.rename:
    profile: kalshi
    app: kalshi_live
    former: kalshi
"""

RETURN = r"""
record:
  description: What was done.
  returned: always
  type: dict
  contains:
    steps:
      description: Each thing that was done, or in check mode would be.
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

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.arguments import definition_spec
from ..module_utils.core.operations.rename import rename
from ..module_utils.core.ports import Ports
from ..module_utils.definition import defined_application, on_this_account
from ..module_utils.door import Answer, answer, serve

FORMER: dict[str, Any] = {"type": "str", "default": ""}
UNIT_DIR: dict[str, Any] = {"type": "path", "default": "/etc/systemd/system"}


def run(module: Any, ports: Ports) -> Answer:
    """Take along what there is, outside of check mode."""
    params = module.params
    return answer(
        rename(
            defined_application(on_this_account(params)),
            ports,
            former=params["former"],
            unit_dir=Path(params["unit_dir"]),
            dry_run=module.check_mode,
        )
    )


def main() -> None:
    """Build the module and serve it."""
    spec = definition_spec(former=FORMER, unit_dir=UNIT_DIR)
    serve(AnsibleModule(argument_spec=spec, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
