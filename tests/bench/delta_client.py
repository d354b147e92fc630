"""An incremental ADS client that adds next to nothing of its own: a blocking socket, and HTTP/2 frames as they are.

It does what acknowledging takes, and no more: it finds the nonce of a response and sends it back. (gRPC's own client
for Python takes some 0.5 ms for a response, which would count as the server's.) Frames are those of RFC 9113, header
fields are literals (RFC 7541, 6.2.2), messages have gRPC's prefix of five bytes. Windows are as large as they may be,
so that they need no updates in the time of a measurement.
"""

import socket
from collections.abc import Iterator

from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from streams.serve.xds.build.names import TYPE_URLS

NODE = Node(id="sidecar~10.0.0.1~x.default~default.svc.cluster.local")
"""As istiod wants it: type, address, name and DNS domain of the proxy."""

_METHOD = b"/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_HEADERS = 1, 4
_END_STREAM = 1
_STREAM = 1
_WINDOW = 2**31 - 1
_INITIAL_WINDOW = 65_535
_HEAD = 9


class StreamEnded(ConnectionError):
    """The server ended the stream, or the connection."""


def responses(port: int, names: list[str], node: Node = NODE) -> Iterator[bytes]:
    """Subscribes to these endpoint sets; yields each response, serialized, and has then acknowledged it. Raises
    StreamEnded."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first = DeltaDiscoveryRequest(node=node, type_url=TYPE_URLS["eds"], resource_names_subscribe=names)
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, b"\0\x04" + _WINDOW.to_bytes(4, "big"))
            + _frame(_WINDOW_UPDATE, 0, 0, (_WINDOW - _INITIAL_WINDOW).to_bytes(4, "big"))
            + _frame(_HEADERS, _END_HEADERS, _STREAM, _headers(port))
            + _message(first)
        )
        for message in _messages(connection):
            yield message
            nonce = DeltaDiscoveryResponse.FromString(message).nonce
            connection.sendall(_message(DeltaDiscoveryRequest(type_url=TYPE_URLS["eds"], response_nonce=nonce)))


def _messages(connection: socket.socket) -> Iterator[bytes]:
    data = b""
    for kind, flags, body in _frames(connection):
        if kind == _DATA:
            data += body
            while len(data) >= 5 and len(data) >= (end := 5 + int.from_bytes(data[1:5], "big")):
                yield data[5:end]
                data = data[end:]
        elif kind in {_SETTINGS, _PING} and not flags & _ACK:
            connection.sendall(_frame(kind, _ACK, 0, body if kind == _PING else b""))
        if kind in {_RESET, _GOAWAY} or (kind in {_DATA, _HEADERS} and flags & _END_STREAM):
            raise StreamEnded(f"frame {kind}: {body[:200]!r}")


def _frames(connection: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    buffer = b""
    while chunk := connection.recv(1 << 20):
        buffer += chunk
        while len(buffer) >= _HEAD and len(buffer) >= (end := _HEAD + int.from_bytes(buffer[:3], "big")):
            yield buffer[3], buffer[4], buffer[_HEAD:end]
            buffer = buffer[end:]
    raise StreamEnded("the connection was closed")


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def _message(request: DeltaDiscoveryRequest) -> bytes:
    body = request.SerializeToString()
    return _frame(_DATA, 0, _STREAM, b"\0" + len(body).to_bytes(4, "big") + body)


def _headers(port: int) -> bytes:
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": _METHOD,
        b":authority": b"127.0.0.1:%d" % port,
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    return b"".join(b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in fields.items())
