"""Tells clients which authorities a server takes certificates from (``tls.py``).

Go servers name the subjects of their client CAs in the handshake; clients with several
certificates choose by them, and one without a fitting certificate shows none. ``ssl`` has no
function for it, so OpenSSL is called directly: the context's pointer is the first field of
CPython's object. Where that can't be relied on, clients are told nothing, which is allowed.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Sequence

_FUNCTIONS = (
    "SSL_load_client_CA_file",
    "SSL_add_file_cert_subjects_to_stack",
    "SSL_CTX_set_client_CA_list",
)
_KNOWN_LAYOUT = ((3, 11), (3, 14))


def name_client_authorities(context: ssl.SSLContext, ca_files: Sequence[str]) -> bool:
    """From now on ``context`` names the subjects of the certificates in ``ca_files``; False when
    this interpreter does not allow it."""
    if (
        sys.implementation.name != "cpython"
        or hasattr(sys, "gettotalrefcount")
        or not _KNOWN_LAYOUT[0] <= sys.version_info[:2] <= _KNOWN_LAYOUT[1]
    ):
        return False
    import _ssl
    import ctypes

    try:
        library = ctypes.CDLL(_ssl.__file__)
        load, add, use = (getattr(library, name) for name in _FUNCTIONS)
    except (AttributeError, OSError):  # OpenSSL is inside of the interpreter, without its names
        return False
    load.argtypes, load.restype = [ctypes.c_char_p], ctypes.c_void_p
    add.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    use.argtypes, use.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    names = load(ca_files[0].encode())
    if not names:
        return False
    for path in ca_files[1:]:
        add(names, path.encode())
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    use(pointer, names)  # takes the list over
    return True
