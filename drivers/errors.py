"""Errors of a device or a link, with what is known about the work it was given."""

from __future__ import annotations

from enum import Enum


class RequestOutcome(Enum):
    """RequestOutcome of a request when a driver gives up: what is known about it. Chooses between void and unknown."""

    NOT_SENT = "not_sent"
    """No byte left this process: the work was certainly not done."""
    REFUSED = "refused"
    """The peer answered no: the work was certainly not done."""
    UNKNOWN = "unknown"
    """Bytes left and no answer came: the work may be done. Must be resolved, never assumed."""


class DeviceError(Exception):
    """Base of every driver error. Never raised itself.

    `device` is the configured name, `outcome` what is known about the request, `hint` what a technician tries next.
    """

    default_outcome = RequestOutcome.UNKNOWN

    def __init__(
        self, problem: str, *, device: str, outcome: RequestOutcome | None = None, hint: str | None = None
    ) -> None:
        self.problem = problem
        self.device = device
        self.outcome = self.default_outcome if outcome is None else outcome
        self.hint = hint
        super().__init__(self._text())

    def _text(self) -> str:
        parts = [f"{self.device}: {self.problem}", f"outcome {self.outcome.value}"]
        if self.hint is not None:
            parts.append(self.hint)
        return "; ".join(parts)


class DeviceUnavailable(DeviceError):
    """The device is not there or not ready. Nothing was sent unless said otherwise."""

    default_outcome = RequestOutcome.NOT_SENT


class DeviceTimeout(DeviceError):
    """No answer before the deadline."""

    default_outcome = RequestOutcome.UNKNOWN


class Unanswered(DeviceTimeout):
    """No answer in time, on a connection that was kept so that the device can be asked what became of the request.

    What is asked next on `connection` is answered only after the device has dealt with this request, or has lost it.
    `sent_at` is the monotonic second at which it left.
    """

    def __init__(self, problem: str, *, device: str, connection: int, sent_at: float, hint: str | None = None) -> None:
        super().__init__(problem, device=device, hint=hint)
        self.connection = connection
        self.sent_at = sent_at


class DeviceRefused(DeviceError):
    """The device answered and said no."""

    default_outcome = RequestOutcome.REFUSED


class LinkLost(DeviceError):
    """The link broke while the request was under way."""

    default_outcome = RequestOutcome.UNKNOWN
