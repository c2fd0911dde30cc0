"""Why Kafka cannot be reached, in terms of the settings. The clients themselves only say that it cannot."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from orchestra.addresses import split_url
from orchestra.certificates import is_for_another_host
from orchestra.settings import KafkaSettings

# For the connection to one server, sign-in included.
_SECONDS = 5.0


class KafkaUnreachableError(KafkaConnectionError):  # type: ignore[misc]  # aiokafka has no types
    """No bootstrap server can be used. Its text names the setting that is wrong, and has no secrets."""

    @property
    def told(self) -> str:
        """What to show to operators."""
        return str(self.args[0])


@asynccontextmanager
async def explained(settings: KafkaSettings) -> AsyncIterator[None]:
    """Raise ``KafkaUnreachableError`` instead of the client's own error if the body cannot start a client."""
    try:
        yield
    except KafkaUnreachableError:
        raise
    except ClusterAuthorizationFailedError as error:
        # A user that may write to some topic may also number its records.
        raise KafkaUnreachableError("KAFKA_SASL_USERNAME: this user may write to no topic") from error
    except KafkaConnectionError as error:
        if reason := await why(settings):
            raise KafkaUnreachableError(reason) from error
        raise


async def why(settings: KafkaSettings) -> str:
    """What is wrong with the first server that cannot be used, or an empty text if one can be used now."""
    reasons = await asyncio.gather(*[_wrong(settings, server) for server in settings.bootstrap])
    return reasons[0] if all(reasons) else ""


async def _wrong(settings: KafkaSettings, server: str) -> str:
    parts = split_url(f"//{server}")
    assert parts, "the settings have checked it"
    sasl = settings.kafka_security_protocol.startswith("SASL")
    password = settings.kafka_sasl_password
    try:
        async with asyncio.timeout(_SECONDS):
            connection = await create_conn(
                parts.hostname,
                parts.port,
                client_id="orchestra",
                security_protocol=settings.kafka_security_protocol,
                ssl_context=settings.ssl_context(),
                sasl_mechanism=settings.kafka_sasl_mechanism if sasl else None,
                sasl_plain_username=settings.kafka_sasl_username if sasl else None,
                sasl_plain_password=password.get_secret_value() if sasl and password else None,
            )
    except (KafkaError, OSError, EOFError) as error:
        return _reason(error, server)
    connection.close()
    return ""


def _reason(error: BaseException, server: str) -> str:
    match error:
        case ssl.SSLCertVerificationError() if is_for_another_host(error):
            return f"KAFKA_BOOTSTRAP_SERVERS: the certificate of {server} is for another host name"
        case ssl.SSLCertVerificationError():
            return f"KAFKA_SSL_CAFILE: it does not verify the certificate of {server} ({error.verify_message})"
        case ssl.SSLError():
            return (
                f"KAFKA_SECURITY_PROTOCOL: {server} does not speak TLS as configured ({error.reason}); "
                "for mutual TLS set KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE"
            )
        case AuthenticationFailedError() | SaslAuthenticationFailed():
            return f"KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: {server} refuses them"
        case UnsupportedSaslMechanismError():
            return f"KAFKA_SASL_MECHANISM: {server} does not offer it"
        case socket.gaierror():
            return f"KAFKA_BOOTSTRAP_SERVERS: the host of {server} has no address"
        case ConnectionRefusedError():
            return f"KAFKA_BOOTSTRAP_SERVERS: nothing listens at {server}"
        case asyncio.IncompleteReadError() | ConnectionResetError() | KafkaConnectionError():
            return f"KAFKA_SECURITY_PROTOCOL: {server} closes the connection, as one with another protocol does"
        case _:
            return f"KAFKA_BOOTSTRAP_SERVERS: {server} does not answer ({type(error).__name__})"
