"""Who made a bundle: an ed25519 signature (RFC 8032) of its manifest, which has all other hashes.

Keys are files in PEM, as OpenSSL makes them::

    openssl genpkey -algorithm ed25519 -out key.pem       # stays with whoever exports
    openssl pkey -in key.pem -pubout -out public.pem      # goes to the robot
    openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in manifest.json -sigfile manifest.sig
"""

from __future__ import annotations

from pathlib import Path

from crl.deploy.manifest import BundleError

BYTES = 64  # of a signature


def verify(path: Path, content: bytes, signature: bytes) -> None:
    """Checks a signature by the public key in a PEM file.

    Raises:
        BundleError: It is not this key's signature of ``content``; or there is no such key.
    """
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise BundleError("signatures need a package; type: pip install cryptography") from None
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{path} is no public ed25519 key; type: openssl pkey -in KEY -pubout "
                          f"-out {path}")
    try:
        key.verify(signature, content)
    except InvalidSignature:
        raise BundleError(f"the bundle is not signed by the key of {path}; get it again from whom "
                          "you trust") from None
