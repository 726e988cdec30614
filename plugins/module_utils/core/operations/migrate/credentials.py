# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Whether credentials can be what they are taken for. Their content never leaves this module."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Optional

from ...unicode_forms import decoded, json_form

LARGEST = 64 * 1024
"""No credential is larger; what is, is not looked at."""

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)-----END ([A-Z0-9 ]+)-----", re.DOTALL)
_LABELS = frozenset(
    {
        "CERTIFICATE",
        "CERTIFICATE REQUEST",
        "DH PARAMETERS",
        "DSA PRIVATE KEY",
        "EC PARAMETERS",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "PRIVATE KEY",
        "PUBLIC KEY",
        "RSA PRIVATE KEY",
        "RSA PUBLIC KEY",
        "TRUSTED CERTIFICATE",
        "X509 CRL",
    }
)
_OPENSSH_MAGIC = b"openssh-key-v1\0"
_DER_SEQUENCE = b"\x30"
_DER_IDENTIFIER = b"\x06"
_MAY_BE_EMPTY = (".gitkeep", ".keep", ".gitignore", "__init__.py")


def credential_problem(path: str, content: bytes) -> Optional[str]:
    """What is wrong with a credential, as far as can be told without using it; None when nothing is."""
    name = path.rpartition("/")[2]
    if name in _MAY_BE_EMPTY:
        return None
    if not content.strip():
        return "is empty"
    if name.endswith(".pem") or b"-----BEGIN " in content:
        return _pem_problem(content)
    if name.endswith(".json"):
        return _json_problem(content)
    return None


def _pem_problem(content: bytes) -> Optional[str]:
    blocks = _BLOCK.findall(content)
    if not blocks or content.count(b"-----BEGIN ") != len(blocks):
        return "is no PEM: a BEGIN line without its END, or neither"
    for begin, body, end in blocks:
        label = begin.decode("ascii")
        if begin != end:
            return f"is no PEM: BEGIN {label} ends as {end.decode('ascii')}"
        if label not in _LABELS:
            return f"is PEM of no known kind: {label}"
        problem = _body_problem(label, body)
        if problem is not None:
            return problem
    return None


def _body_problem(label: str, body: bytes) -> Optional[str]:
    # Old encrypted keys have headers, which an empty line ends (RFC 1421).
    if b":" in body:
        body = re.split(rb"\r?\n\r?\n", body, maxsplit=1)[-1]
        encrypted = True
    else:
        encrypted = False
    try:
        content = base64.b64decode(b"".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        return f"is no PEM: the text of {label} is not base64"
    if label == "OPENSSH PRIVATE KEY":
        whole = content.startswith(_OPENSSH_MAGIC)
    else:
        whole = encrypted or _is_der(label, content)
    return None if whole and content else f"is no {label}: its content is cut off or something else"


def _is_der(label: str, content: bytes) -> bool:
    """Whether the outermost length is the length that is there."""
    if label == "EC PARAMETERS" and content[:1] == _DER_IDENTIFIER:
        return True
    if content[:1] != _DER_SEQUENCE or len(content) < 2:
        return False
    length, header = content[1], 2
    if length & 0x80:
        digits = length & 0x7F
        length, header = int.from_bytes(content[2 : 2 + digits], "big"), 2 + digits
    return len(content) == header + length


def _json_problem(content: bytes) -> Optional[str]:
    try:
        json.loads(decoded(content, json_form(content)))
    except (ValueError, RecursionError):
        return "is no JSON document"
    return None
