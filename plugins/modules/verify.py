#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The proof of a backup."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Verify backups of an application
version_added: 0.1.0
description:
  - Checks a backup against its checksum, and each of its entries against the manifest. With O(deep) each
    database, document and log is also opened and checked by the rules of its kind.
  - The result is remembered in the catalog.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
attributes:
  check_mode:
    support: full
    details: The backup is verified, and the result is not remembered.
  diff_mode:
    support: N/A
    details: No data is changed.
  idempotent:
    support: full
    details: The time of the verification is remembered, which does not count as a change.
  platform:
    platforms: linux
options:
  backup:
    description:
      - A name, a path on the host, V(latest) or V(all).
      - V(all) begins with the backup that has not been verified for the longest time.
    type: str
    default: latest
  deep:
    description: Also open every database, document and log, from a private copy.
    type: bool
    default: false
  passphrase_file:
    description: File on the host with the passphrase, where it is not the configured one.
    type: path
seealso:
  - module: tradekeep.ops.archive_verify
  - module: tradekeep.ops.backup_info
"""

EXAMPLES = r"""
- name: Prove the newest backup
  tradekeep.ops.verify:
    app: kalshi
    deep: true
  async: 7200
  poll: 5
"""

RETURN = r"""
record:
  description:
    - What was verified, and what was found, of each of C(backups).
    - C(opened) is V(false) where this host has no key, so that the checksum alone was compared, whatever O(deep) says.
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
from ..module_utils.core.operations.verify import verify
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(
    backup={"type": "str", "default": "latest"},
    deep={"type": "bool", "default": False},
    passphrase_file={"type": "path", "no_log": False},
)


def run(module: Any, ports: Ports) -> Answer:
    """Verify one backup, or all of them."""
    params = module.params
    return answer(
        verify(
            configured_application(params),
            ports,
            reference=params["backup"],
            deep=params["deep"],
            passphrase_file=params["passphrase_file"],
            record=not module.check_mode,
        )
    )


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
