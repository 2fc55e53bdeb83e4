"""Verifies a certificate with securesystemslib alone: no line of Quorate takes part.

usage: verify.py CERTIFICATE THRESHOLD PUBLIC_KEY.pem...
Prints the key ids that signed; exits with 1 where fewer than THRESHOLD signatures fit.
"""

import json
import sys

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey


def main() -> int:
    certificate, threshold, *pems = sys.argv[1:]
    keys = []
    for pem in pems:
        with open(pem, "rb") as file:
            keys.append(SSlibKey.from_crypto(load_pem_public_key(file.read())))
    with open(certificate, "rb") as file:
        envelope = Envelope.from_dict(json.load(file))
    try:
        accepted = envelope.verify(keys, int(threshold))
    except VerificationError as error:
        print(error, file=sys.stderr)
        return 1
    statement = json.loads(envelope.payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    print(json.dumps({"signed": sorted(accepted), "type": envelope.payload_type}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
