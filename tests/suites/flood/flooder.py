"""`python -m suites.flood.flooder PORT TOPIC MESSAGES_PER_S SECONDS`: small QoS 0 messages, as fast as asked.

A busy machine takes longer for as many. Prints how many were sent, and in how many seconds.
"""

import os
import socket
import sys
import time

from lab.brokers import CONNECT, PUBLISH, packet, text

# A second has so many bursts.
BURSTS = 100
PAYLOAD_BYTES = 24


def main(port: int, topic: str, messages_per_s: int, seconds: float) -> None:
    """Flood a topic."""
    each = messages_per_s // BURSTS
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(packet(CONNECT, text("MQTT") + b"\x04\x02" + (600).to_bytes(2, "big") + text("flooder")))
        line.recv(4)
        begun, sent = time.monotonic(), 0
        while sent < messages_per_s * seconds:
            if sent >= messages_per_s * (time.monotonic() - begun):
                time.sleep(1 / BURSTS)
                continue
            line.sendall(
                b"".join(packet(PUBLISH, text(topic) + os.urandom(PAYLOAD_BYTES)) for _ in range(each))
            )
            sent += each
        line.sendall(b"\xe0\0")
    sys.stdout.write(f"{sent} {time.monotonic() - begun:.2f}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
