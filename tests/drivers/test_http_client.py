"""The HTTP client against devices that answer anything: each failure says what is known about the request."""

import asyncio
import contextlib
import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drivers.errors import DeviceRefused, DeviceTimeout, DeviceUnavailable, LinkLost, RequestOutcome
from drivers.http_client import ANSWER_BYTES_MAX, HttpClient, HttpClientConfig

HOST = "127.0.0.1"


@contextlib.asynccontextmanager
async def device(answer, context=None):
    """A device that takes a request and says `answer`; None: nothing, and it holds the line."""
    asked = asyncio.Queue()
    holding = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        asked.put_nowait(head)
        if answer is None:
            holding.append(writer)
            return
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        for writer in holding:
            writer.close()
        server.close()


async def post(port, *, timeout_s=20.0, **config):
    scheme = "https" if "certificate" in config else "http"
    async with HttpClient(HttpClientConfig(device="pump", address=f"{scheme}://{HOST}:{port}", **config)) as client:
        return await client.post("/x", b"", content_type="text/plain", timeout_s=timeout_s)


def answered(status, body=b"", *headers):
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


ANSWERS = {
    "403": (answered(403), DeviceRefused, RequestOutcome.REFUSED, "403, no right"),
    "a redirection": (answered(302, b"", "Location: /y"), DeviceRefused, RequestOutcome.REFUSED, "status 302"),
    "busy": (answered(503), DeviceRefused, RequestOutcome.REFUSED, "status 503"),
    "a fault": (answered(500), LinkLost, RequestOutcome.UNKNOWN, "status 500"),
    "too much": (answered(200, bytes(ANSWER_BYTES_MAX + 1)), LinkLost, RequestOutcome.UNKNOWN, "answer above"),
    "nothing": (b"", LinkLost, RequestOutcome.UNKNOWN, "RemoteProtocolError"),
    "half an answer": (answered(200, b"12345")[:-2], LinkLost, RequestOutcome.UNKNOWN, "RemoteProtocolError"),
    "no HTTP": (b"hello\r\n\r\n", LinkLost, RequestOutcome.UNKNOWN, "RemoteProtocolError"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_answer_that_is_none_says_what_is_known(what):
    answer, kind, outcome, problem = ANSWERS[what]

    async def play():
        async with device(answer) as (port, _):
            with pytest.raises(kind) as caught:
                await post(port)
            assert caught.value.outcome is outcome
            assert problem in caught.value.problem

    asyncio.run(play())


def test_answer_comes_with_status_headers_and_body():
    async def play():
        async with device(answered(201, b"good", "X-Y: z")) as (port, asked):
            answer = await post(port)
            assert (answer.status, answer.body, answer.headers["x-y"]) == (201, b"good", "z")
            head = (await asked.get()).lower()
            assert b"accept-encoding: identity" in head
            assert b"authorization" not in head

    asyncio.run(play())


def test_silence_is_unknown_and_one_that_never_had_its_turn_was_not_sent():
    async def play():
        async with device(None) as (port, asked):
            config = HttpClientConfig(device="pump", address=f"http://{HOST}:{port}")
            async with HttpClient(config) as client:
                first = asyncio.create_task(client.post("/x", b"", content_type="text/plain", timeout_s=0.3))
                await asked.get()
                with pytest.raises(DeviceUnavailable) as caught:
                    await client.post("/x", b"", content_type="text/plain", timeout_s=0.01)
                assert caught.value.outcome is RequestOutcome.NOT_SENT
                with pytest.raises(DeviceTimeout) as caught:
                    await first
                assert caught.value.outcome is RequestOutcome.UNKNOWN

    asyncio.run(play())


def made_certificate(folder):
    """A certificate that a device signed for itself, and its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "PTS-2")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(1))
    made = builder.sign(key, hashes.SHA256())
    path = folder / f"{made.serial_number}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def test_device_that_signed_for_itself_is_known_by_its_certificate_and_no_other(tmp_path):
    right, wrong = made_certificate(tmp_path), made_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(right)

    async def play():
        async with device(answered(200, b"good"), context) as (port, _):
            assert (await post(port, certificate=right)).body == b"good"
            with pytest.raises(DeviceUnavailable) as caught:
                await post(port, certificate=wrong)
            assert "certificate" in caught.value.problem.lower()

    asyncio.run(play())
