"""The limit on messages with QoS 0 that were received and not yet handled: the protocol has none.

With MQTT 5 at most one message with QoS 1 is in flight (Receive Maximum), but brokers send QoS 0 as fast as
the line allows. Messages above the limit are dropped as soon as paho delivers them. Only QoS 0 is dropped: a
dropped message with QoS 1 would stay the one in flight for ever. A retained message can be requested again.

Brokers drop, too: mosquitto, when a thousand packets wait for a client. It drops QoS 1 as well, goes on
counting the message as the one in flight, and sends no more QoS 1 on that connection. So after a flood we
connect again: what is in flight is then sent once more, and what still waited of the flood is not.
"""

import structlog

log = structlog.get_logger()

# What a message costs in addition to topic and payload, measured in a flood: objects of paho and aiomqtt,
# mostly properties. It also limits how many wait, and so how long a genuine message behind them has to.
OVERHEAD_BYTES = 6 * 1024
# How often dropped messages are logged.
REPORT_S = 60.0
# So many in a window are a flood: mosquitto keeps as many for a slow client by default. What was published
# meanwhile waits for the window's end at most.
FLOOD_MESSAGES = 1000
FLOOD_WINDOW_S = 15.0


class Qos0Budget:
    """The bytes that waiting messages may take; None: no limit."""

    def __init__(self, limit_bytes: int | None) -> None:
        self._limit_bytes = limit_bytes
        self._waiting_bytes = 0
        self._dropped = self._dropped_bytes = 0
        self._retained: set[str] = set()
        self.messages = 0  # that have come, dropped ones too

    def admit(self, topic: str, size_bytes: int, *, is_retained: bool) -> bool:
        """Reserve room for a message; False: there is none, and the message is to be dropped."""
        self.messages += 1
        cost = size_bytes + len(topic) + OVERHEAD_BYTES
        if self._limit_bytes is None or self._waiting_bytes + cost <= self._limit_bytes:
            self._waiting_bytes += cost
            return True
        self._dropped += 1
        self._dropped_bytes += size_bytes
        if is_retained:
            self._retained.add(topic)
        return False

    def release(self, topic: str, size_bytes: int) -> None:
        """Give back the room of a message that is being handled."""
        self._waiting_bytes -= size_bytes + len(topic) + OVERHEAD_BYTES

    def report(self) -> set[str]:
        """Log what was dropped since the last report; return topics whose retained message was."""
        topics, self._retained = self._retained, set()
        if self._dropped:
            log.warning(
                "messages with QoS 0 dropped: they came faster than they can be handled",
                code="qos0_flood",
                messages=self._dropped,
                size_bytes=self._dropped_bytes,
                asked_again=sorted(topics),
            )
        self._dropped = self._dropped_bytes = 0
        return topics
