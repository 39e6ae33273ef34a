"""Topics as they come from a broker to which a dot is a level.

RabbitMQ keeps topics as AMQP routing keys, in which dots separate levels: what was published on, and
subscribed to as, `/a/pump/u/4.3` arrives as `/a/pump/u/4/3`. Which dots there were is told by what was
subscribed to, and of topics that are not wanted any more by what the template can build.
"""

import re
from collections.abc import Collection, Iterable

from gatewayd.ota.topic import OtaTopic, TopicTemplate


def as_levels(topic: str) -> str:
    """Return the topic as such a broker delivers it."""
    return topic.replace(".", "/")


def subscribed_as(arrived: str, subscribed: Iterable[str]) -> list[str]:
    """Return the topics, of those subscribed to, that may arrive like this from such a broker."""
    return sorted(topic for topic in subscribed if topic != arrived and as_levels(topic) == arrived)


def readings(template: TopicTemplate, arrived: str) -> list[str]:
    """Return the topics that the template can build and that may arrive like this: mostly one, or none."""
    found = (_reading(template, arrived, quantifier) for quantifier in ("+?", "+"))
    return sorted({topic for topic in found if topic is not None})


def collisions(template: TopicTemplate, topics: Collection[OtaTopic]) -> list[tuple[OtaTopic, OtaTopic]]:
    """Return the pairs of topics that such a broker delivers as the same."""
    first: dict[str, OtaTopic] = {}
    pairs = []
    for topic in topics:
        other = first.setdefault(as_levels(template.build(topic)), topic)
        if other != topic:
            pairs.append((other, topic))
    return pairs


def _reading(template: TopicTemplate, arrived: str, quantifier: str) -> str | None:
    """Read it with an application id of as few levels as can be (`+?`), or as many (`+`)."""
    parts = re.split(r"\{([^{}]*)\}", template.template)
    groups = {"app_id": f"([^+#]{quantifier})"}
    pattern = "".join(
        groups.get(part, "([0-9]+)") if at % 2 else re.escape(as_levels(part))
        for at, part in enumerate(parts)
    )
    match = re.fullmatch(f"{pattern}(|/s|/u)", arrived)
    if match is None:
        return None
    values = [
        value.replace("/", ".") if name == "app_id" else value
        for name, value in zip(parts[1::2], match.groups(), strict=False)
    ]
    filled = [values[at // 2] if at % 2 else part for at, part in enumerate(parts)]
    topic = "".join(filled) + match[len(values) + 1]
    return topic if template.parse(topic) is not None and as_levels(topic) == arrived else None
