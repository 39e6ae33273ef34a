"""What a person orders over the control socket while the daemon may be killed, and what then must stand.

An order that was answered counts as acknowledged. One that was not, because the daemon was gone, is given
again in the daemon's next life, as a person would.
"""

from dataclasses import dataclass
from pathlib import Path

from lab.history import ENDED, Answered
from lab.recorder import Witnesses, sha256_of

from gatewayd.control.client import DaemonUnreachable, ask
from gatewayd.control.messages import OutcomesResult
from gatewayd.control.requests import Push, Steer
from gatewayd.errors import RequestError
from gatewayd.jobs.eligibility import push_topic

# In which states a job is ever after, once somebody was told that it was done.
ALLOWED = {
    "approve": (ENDED | {"queued", "transferring", "staged", "activating"}) - {"cancelled", "superseded"},
    "cancel": frozenset({"cancelled"}),
}


@dataclass(frozen=True, slots=True)
class Order:
    """`approve`, `cancel` or `push`, for one device; of a push also the version and what is pushed."""

    op: str
    device: str
    version: str
    image: bytes
    message: bytes

    def publish(self, witnesses: Witnesses) -> None:
        """Note what is going to be pushed: it may arrive, whether or not that is answered."""
        if self.op == "push":
            topic = push_topic(self.device)
            witnesses.published(topic, self.message, self.version, self.image, self.device)

    def give(self, socket: Path, witnesses: Witnesses) -> bool:
        """Give the order; False when the daemon went without an answer.

        That it was refused is an answer, too: the order before it had been carried out.
        """
        try:
            answer = self._ask(socket)
        except DaemonUnreachable:
            return False
        except RequestError:
            return True
        if self.op == "push":
            witnesses.acknowledged(sha256_of(self.message))
        else:
            for outcome in answer.outcomes:
                assert outcome.job is not None, answer
                witnesses.answered(Answered(outcome.job, ALLOWED[self.op]))
        return True

    def _ask(self, socket: Path) -> OutcomesResult:
        match self.op:
            case "push":
                file = socket.parent / "pushed"
                file.write_bytes(self.image)
                with file.open("rb") as content:
                    return ask(
                        socket, Push(device=self.device, version=self.version), OutcomesResult, content
                    )
            case "approve":
                return ask(socket, Steer(op="approve", targets=(self.device,)), OutcomesResult)
            case "cancel":
                return ask(socket, Steer(op="cancel", targets=(self.device,)), OutcomesResult)
        raise ValueError(self.op)
