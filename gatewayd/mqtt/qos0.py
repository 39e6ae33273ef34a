"""Messages with QoS 0: nothing holds them back, so what has come and is not yet looked at is bounded here.

With MQTT 5 at most one message of QoS 1 is on its way (Receive Maximum), but brokers send QoS 0 as fast as
the line is. What has no room is dropped where paho hands it over: only QoS 0, for a dropped message of QoS 1
would be the one in flight for ever. A dropped message that is retained can be asked for again.

Brokers drop, too: mosquitto, when a thousand packets wait for a client. It does so with QoS 1 as well, goes
on counting the message as the one in flight, and sends nothing more of QoS 1 on that connection. So after a
flood we connect again: what is in flight comes once more then, and what still waited of the flood does not.
"""

import structlog

log = structlog.get_logger()

# What a message costs beside topic and payload, measured in a flood: paho's objects and aiomqtt's, mostly
# properties. It also bounds how many wait, and so how long a genuine message behind them does.
OVERHEAD_BYTES = 6 * 1024
# How often the log says what was dropped.
REPORT_S = 60.0
# So many in a window are a flood: mosquitto keeps as many for a slow client by default. What was published
# meanwhile waits for the window's end at most.
FLOOD_MESSAGES = 1000
FLOOD_WINDOW_S = 15.0


class Qos0Budget:
    """What may wait, in bytes; without a limit everything."""

    def __init__(self, limit_bytes: int | None) -> None:
        self._limit_bytes = limit_bytes
        self._waiting_bytes = 0
        self._dropped = self._dropped_bytes = 0
        self._retained: set[str] = set()
        self.messages = 0  # that have come, dropped ones too

    def admit(self, topic: str, size_bytes: int, *, is_retained: bool) -> bool:
        """Make room for a message that has come; False: there is none, and it is to be dropped."""
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
        """Take note that an admitted message does not wait any more."""
        self._waiting_bytes -= size_bytes + len(topic) + OVERHEAD_BYTES

    def report(self) -> set[str]:
        """Log what was dropped since the last time; return topics whose retained message was among it."""
        topics, self._retained = self._retained, set()
        if self._dropped:
            log.warning(
                "messages with QoS 0 dropped: they came faster than they can be looked at",
                code="qos0_flood",
                messages=self._dropped,
                size_bytes=self._dropped_bytes,
                asked_again=sorted(topics),
            )
        self._dropped = self._dropped_bytes = 0
        return topics
