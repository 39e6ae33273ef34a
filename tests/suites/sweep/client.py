"""The least of an MQTT 5 client, without threads: what forks must have none."""

import socket
from typing import Self

from lab.brokers import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    SUBACK,
    SUBSCRIBE,
    Packet,
    packet,
    publish_v5,
    text,
)


class Client:
    """A client with a session that outlives it, and blocking calls."""

    def __init__(self, port: int, client_id: str, *, lasts: bool = True) -> None:
        """`lasts` False: what the broker has of this client goes."""
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._file = self._socket.makefile("rb")
        flags, expiry_s = (0, 3600) if lasts else (2, 0)  # 2: a clean start
        properties = b"\x05\x11" + expiry_s.to_bytes(4, "big")
        body = text("MQTT") + bytes([5, flags, 0, 60]) + properties + text(client_id)
        self._ask(packet(CONNECT, body), CONNACK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendall(packet(DISCONNECT))
        self._file.close()
        self._socket.close()

    def subscribe(self, topic: str) -> None:
        self._ask(packet(SUBSCRIBE, b"\x00\x01\x00" + text(topic) + b"\x01", flags=2), SUBACK)

    def publish(self, topic: str, payload: bytes) -> None:
        self._ask(publish_v5(topic, payload, 1), PUBACK)

    def _ask(self, question: bytes, kind: int) -> None:
        self._socket.sendall(question)
        answer = self._read()
        assert answer.kind == kind, f"the broker answers with packet {answer.kind}"

    def _read(self) -> Packet:
        first, size, shift = self._file.read(1)[0], 0, 0
        while True:
            digit = self._file.read(1)[0]
            size |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return Packet(first >> 4, first & 15, self._file.read(size))
