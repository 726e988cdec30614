#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The proof of any archive."""

from __future__ import annotations

DOCUMENTATION = r"""
module: archive_verify
short_description: Verify an archive, whoever made it
version_added: 0.1.0
description:
  - Verifies an archive file that need not be in the catalog. The rules of the configured application say what
    its files are.
  - An archive that an old shell script made has no manifest. It is verified as far as it can be, and the record
    says that only weaker checks were possible.
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
  path:
    description: The archive on the host.
    type: path
    required: true
  deep:
    description: Also open every database, document and log, from a private copy.
    type: bool
    default: false
  passphrase_file:
    description: File on the host with the passphrase of the archive.
    type: path
seealso:
  - module: tradekeep.ops.verify
"""

EXAMPLES = r"""
- name: Look into an archive of the old script
  tradekeep.ops.archive_verify:
    app: kalshi
    path: /root/old/user_data_20250101_020000.tar.gz
    deep: true
"""

RETURN = r"""
record:
  description: What was found in the archive.
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
    path={"type": "path", "required": True},
    deep={"type": "bool", "default": False},
    passphrase_file={"type": "path", "no_log": False},
)


def run(module: Any, ports: Ports) -> Answer:
    """Verify one archive file."""
    params = module.params
    return answer(
        verify(
            configured_application(params),
            ports,
            reference=params["path"],
            deep=params["deep"],
            passphrase_file=params["passphrase_file"],
            record=False,
        )
    )


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
