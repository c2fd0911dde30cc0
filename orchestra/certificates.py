"""What is wrong with a certificate that was not accepted."""

import ssl

# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL.
_OTHER_NAME = (62, 64)


def is_for_another_host(error: ssl.SSLCertVerificationError) -> bool:
    """True if the certificate is valid, but for other host names or addresses than the one that was asked for."""
    return error.verify_code in _OTHER_NAME
