#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Data from elsewhere in the place of this host's, as one transaction."""

from __future__ import annotations

DOCUMENTATION = r"""
module: migrate
short_description: Migrate data from a directory, an archive or another server
version_added: 0.1.0
description:
  - Captures a directory, an unpacked old backup or an archive, compares it with the live data, stages it beside that,
    stops the services, exchanges old and new by rename, starts the services again and sees that they stay up. On any
    failure everything is put back. The source is never written.
  - Live data that differs from the source's, or that the source does not have, fails the task before anything is
    written, unless O(force) is set. Then it is backed up and verified first.
  - Migrating what is there already changes nothing and stops no service.
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
  source:
    description: Absolute path of a directory or an archive on the host. Either this or O(from_server).
    type: path
  from_server:
    description:
      - Another server, to be reached by ssh from this host. The application moves from there to here while it runs.
      - It is stopped there only when everything but the last changes is here, fenced, and started here what ran there.
        At no time does it run on both. On any failure it runs there again.
      - In check mode the connection is made, and names and sizes are compared.
    type: dict
    suboptions:
      name:
        description: What people call it.
        type: str
        required: true
      destination:
        description: C(USER@ADDRESS), as ssh understands it.
        type: str
        required: true
      port:
        description: Port of ssh there.
        type: int
      identity:
        description: File on the host with the private key.
        type: path
      known_hosts:
        description: File on the host with the host keys of the source; nothing else is trusted then.
        type: path
      remote:
        description: Command to run there. A key that is restricted to a command ignores it.
        type: str
        default: tradekeep migrate --serve
  force:
    description:
      - Replace and remove live data that stands against the source, and leave out what is refused.
    type: bool
    default: false
  start:
    description: Afterwards start everything that is installed, not only what ran before.
    type: bool
    default: false
  passphrase_file:
    description: File on the host with the passphrase of the archive, where it is not the configured one.
    type: path
  hooks:
    description: Whether the application's own hooks run. A rehearsal must not have them talk to a broker.
    type: bool
    default: true
  key_file:
    description:
      - File on the host with the secret key of an archive that is encrypted to a public one.
      - It is imported into a gpg home that is removed again. Without it the keyring of the account is asked.
    type: path
seealso:
  - module: tradekeep.ops.fence
  - module: tradekeep.ops.restore
"""

EXAMPLES = r"""
- name: Take the bot over from the old server
  tradekeep.ops.migrate:
    app: kalshi
    from_server:
      name: old
      destination: root@old.example.com
  async: 14400
  poll: 5

- name: Migrate what an old server held
  tradekeep.ops.migrate:
    app: kalshi
    source: /srv/old/user_data
  async: 7200
  poll: 5
"""

RETURN = r"""
record:
  description:
    - The source, the checklist, what happens to each path, and what this host holds afterwards.
    - From a server also C(handover), with seconds and bytes of each phase and the downtime.
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
from ..module_utils.core.operations.handover.attended import attended_takeover
from ..module_utils.core.operations.handover.link import Link
from ..module_utils.core.operations.migrate.migrate import migrate
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(
    source={"type": "path"},
    from_server={
        "type": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "destination": {"type": "str", "required": True},
            "port": {"type": "int"},
            # The name of a file, not a secret.
            "identity": {"type": "path", "no_log": False},
            "known_hosts": {"type": "path"},
            "remote": {"type": "str", "default": "tradekeep migrate --serve"},
        },
    },
    force={"type": "bool", "default": False},
    start={"type": "bool", "default": False},
    # Names of files, not secrets.
    passphrase_file={"type": "path", "no_log": False},
    key_file={"type": "path", "no_log": False},
    hooks={"type": "bool", "default": True},
)


def run(module: Any, ports: Ports) -> Answer:
    """Migrate from one source."""
    params = module.params
    if params["from_server"]:
        return answer(
            attended_takeover(
                configured_application(params),
                ports,
                Link(**params["from_server"]),
                force=params["force"],
                by="ansible",
                dry_run=module.check_mode,
            )
        )
    return answer(
        migrate(
            configured_application(params),
            ports,
            source=params["source"],
            force=params["force"],
            start=params["start"],
            passphrase_file=params["passphrase_file"],
            key_file=params["key_file"],
            hooks=params["hooks"],
            by="ansible",
            dry_run=module.check_mode,
        )
    )


def main() -> None:
    """Build the module and serve it."""
    one = [("source", "from_server")]
    serve(AnsibleModule(argument_spec=SPEC, mutually_exclusive=one, required_one_of=one, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
