"""Which port does the address of a server mean, and how is it known to be that server?"""

from __future__ import annotations

import os
import ssl

from kektordb.errors import ConfigError

__all__ = ["DEFAULT_PORT", "TLS_PORT", "port_of", "tls_context"]

# Where `kektordb serve` listens; and where something that adds TLS does.
DEFAULT_PORT = 9091
TLS_PORT = 443


def port_of(secure: bool, given: int | None) -> int:
    """Return the port of an address: 9091 for ``http`` and 443 for ``https`` when it names none."""
    if given is not None:
        return given
    return TLS_PORT if secure else DEFAULT_PORT


def tls_context(secure: bool, ca_file: str | os.PathLike[str] | None, verify: bool) -> ssl.SSLContext | None:
    """Return how the other side is verified; None without TLS.

    Parameters
    ----------
    secure : bool
        The address begins with ``https``.
    ca_file : str or path, optional
        Certificates of authorities in PEM, or that of the server itself; those of the system by default.
    verify : bool
        Whether the certificate is verified at all.

    Raises
    ------
    ConfigError
        Also for options of TLS without it: who gives them believes that it is there.
    """
    if not isinstance(verify, bool):
        raise ConfigError(f"expected verify to be True or False, got {verify!r:.80}; a file goes into ca_file")
    if not secure:
        if ca_file is not None or not verify:
            raise ConfigError("expected an address that begins with https:// beside ca_file and verify")
        return None
    if ca_file is not None and not verify:
        raise ConfigError("expected either ca_file or verify=False, got both")
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else os.fsdecode(ca_file))
    except (OSError, TypeError) as error:  # of ssl, too
        raise ConfigError(f"cannot read the certificates in {ca_file!r:.200}: {error}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
