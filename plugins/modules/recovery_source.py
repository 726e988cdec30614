#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a recovery takes from the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_source
short_description: Look at what a recovery takes from the controller
version_added: 0.1.0
description:
  - Looks at the archive, the keys that open it, and the files that go to the host, and names everything that is wrong.
    Writes nothing that stays.
  - An archive that is encrypted is decrypted as far as its first bytes, so that a wrong key is found before the host is
    touched. That needs gpg on the controller.
  - The role P(tradekeep.ops.recover#role) runs it on the controller.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.definition
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
    details: Nothing is changed.
  idempotent:
    support: full
  platform:
    platforms: linux
options:
  archive:
    description: The archive. Without it, it is on the host.
    type: path
  key_file:
    description: File with the secret key that opens it.
    type: path
  unlock_file:
    description: File with the passphrase of the archive, or of the key.
    type: path
  files:
    description: Files that go to the host.
    type: list
    elements: dict
    default: []
    suboptions:
      src:
        description: Path of the file.
        type: str
        required: true
      dest:
        description: Absolute path on the host.
        type: str
        required: true
  unlocked_there:
    description: Whether a file on the host opens it, or a part of what does. Then nothing is decrypted here.
    type: bool
    default: false
  bare:
    description: Whether nothing is on the host yet.
    type: bool
    default: false
seealso:
  - module: tradekeep.ops.prerequisites
"""

EXAMPLES = r"""
- name: See whether a key opens an archive
  tradekeep.ops.recovery_source:
    profile: kalshi
    archive: ~/backups/bot1/user_data_20261122_030012.tar.gz.gpg
    key_file: ~/safe/operator-secret.asc
  delegate_to: localhost
"""

RETURN = r"""
record:
  description:
    - Of the archive C(sha256), C(checksum_file) (whether a C(.sha256) lies beside it), C(archive_bytes), C(bytes) of
      the data (of the archive where its sidecar is not there), and whether it is C(encrypted). C(problems).
  returned: always
  type: dict
exit_status:
  description: V(0) is success, V(1) means that something is wrong.
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
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.arguments import definition_spec
from ..module_utils.core.operations.recovery_source import RecoverySource, examine_source
from ..module_utils.core.ports import Ports
from ..module_utils.definition import application_of_code
from ..module_utils.door import Answer, answer, serve

FILES: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {"src": {"type": "str", "required": True}, "dest": {"type": "str", "required": True}},
}
SPEC = definition_spec(
    archive={"type": "path"},
    # Names of files, not secrets.
    key_file={"type": "path", "no_log": False},
    unlock_file={"type": "path"},
    files=FILES,
    unlocked_there={"type": "bool", "default": False},
    bare={"type": "bool", "default": False},
)


def run(module: Any, ports: Ports) -> Answer:
    """Look."""
    params = module.params
    source = RecoverySource(
        archive=_path(params["archive"]),
        key=_path(params["key_file"]),
        passphrase=_path(params["unlock_file"]),
        files={item["dest"]: item["src"] for item in params["files"]},
        unlocked_there=params["unlocked_there"],
        bare=params["bare"],
    )
    return answer(examine_source(application_of_code(params), ports, source))


def _path(text: Optional[str]) -> Optional[Path]:
    return Path(text) if text else None


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
