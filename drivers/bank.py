"""One supervised connection to a bank host.

Theory of operation. `run` owns the connection: connect, sign every terminal in, be up, and when anything breaks say
why, wait, and start over. The wait doubles up to a maximum and is shortened by chance, so that a hundred boxes do
not come back in the same second. While it is up, one task reads and one watches: when no whole message was heard for a
while it asks with an echo, and after a number of unanswered echoes the link is down, however healthy TCP looks.

Unrequested messages have a budget: answers nobody waits for, requests, unreadable messages, keep-alives. Some are
right (answers after their deadline or given twice), a flood is a fault: over the budget the link is cut. So it is when
a message has begun and does not end. A host that does so soon after each sign-in is given longer and longer pauses, as
one that cannot be reached: that the link was up for a moment counts for nothing.

`exchange` may be called by many at once. Answers find their request by response type, STAN and terminal; a host that
leaves the terminal out is understood as long as only one request fits, of those that wait and of those that are over:
the answer may come late, or for the second time. What no request waits for, an answer after its deadline, a second
copy, goes to `on_late`: it may carry an approval, and the engine must hear of it. Whatever an answer says, it is told
after those to the same request that came before it.

A request that cannot go out at once is refused at once with `not_sent`: nothing is ever queued for a dead link,
because the caller has a deadline and other plans. Once bytes were handed to the system every failure is `unknown`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from drivers.clock import Clock
from drivers.errors import DeviceError, DeviceRefused, DeviceTimeout, DeviceUnavailable, LinkLost, RequestOutcome
from drivers.link import Link
from drivers.restraint import Budget, LogStretch
from protocols.bank.anchors import Anchor
from protocols.bank.codec import Message, decode, encode
from protocols.bank.framing import KEEP_ALIVE, Framer, frame
from protocols.bank.responses import ResponseClass
from protocols.bank.transactions import Profile, answer_mtis, echo, is_request, parse_answer, sign_in
from protocols.errors import LocalProtocolError, RemoteProtocolError

log = logging.getLogger(__name__)

READ_BYTES_MAX = 64 * 1024
"""Bytes taken per read: many glued answers, and never more than the framer's buffer holds."""

UNREADABLE_MAX = 3
"""Messages of one connection that may be unreadable before it is given up: the framing is sound, so one odd message
must not tear down the exchanges of others, but a peer that only sends such is not our bank."""

NETWORK_STAN_FIRST, NETWORK_STAN_LAST = 990_000, 999_999
"""STANs of sign-ins and echoes. The ranges of charge points stay below, so the two never meet."""

UNASKED_AT_ONCE = 16
"""Unrequested messages read before others get their turn: a read may bring a thousand of them."""

SIGN_INS_AT_ONCE = 16
"""Sign-ins side by side, so that a plaza with many terminals sells again soon after its link is back."""

UNKNOWN_BATCH = "000001"
"""Batch in a first sign-in; the host's answer tells the real one."""


class BankState(Enum):
    """State of the connection."""

    DOWN = "down"
    CONNECTING = "connecting"
    SIGNING_IN = "signing_in"
    UP = "up"


@dataclass(frozen=True, slots=True)
class BankLinkState:
    """State of the connection and the reason for it, as text."""

    state: BankState
    cause: str
    misbehaved: bool = False
    """True when the link was cut because of what the host sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankLinkConfig:
    """Times in seconds, and bounds, of one bank link."""

    device: str
    profile: Profile
    terminals: tuple[str, ...] = ()
    """Terminals signed in at every connect; empty: the profile's one."""
    sign_in_timeout_s: float = 10.0
    echo_idle_s: float = 60.0
    """Time without a whole message after which the host is asked whether it is there: below the idle limits of usual
    firewalls."""
    echo_timeout_s: float = 5.0
    echo_misses_max: int = 3
    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0
    """Longest wait between attempts: a bank that returns is used within half a minute."""
    backoff_doublings_max: int = 16
    """Most doublings: keeps the exponent small however long the bank is away."""
    outstanding_max: int = 256
    """Most unanswered requests at once: far above a plaza's lanes, so that reaching it means the host stopped."""
    frame_timeout_s: float = 5.0
    """Time from the first byte of a message to its last: one of 2 KiB takes half of it over a modem of 9,600 baud."""
    unasked_burst: int = 512
    """Unrequested messages that a host may send at once: an answer to each of `outstanding_max` requests after its
    deadline, as when a host wakes up, and every one of them twice."""
    unasked_per_s: float = 20.0
    """Unrequested messages a second in the long run: a plaza of 16 lanes asks 4 times a second, with reversals 8, and a
    slow host may answer all of it late, and twice. Bad hosts of the simulation repeat one answer in 25."""


@dataclass(eq=False, slots=True)
class _Pending:
    """A request waiting for its answer, or over and remembered."""

    accepted: frozenset[str]
    stan: str
    terminal: str | None
    amount: str | None
    answer: asyncio.Future[Message]
    over_at: float = 0.0
    behind: list[Message] = field(default_factory=list)
    """Answers after the first one, which nobody has fetched yet."""

    def fits(self, answer: Message, stan: str | None) -> bool:
        """True when `answer`, which names no terminal, may be this one's."""
        amount = answer.text(4)
        return self.stan == stan and answer.mti in self.accepted and amount in (None, self.amount)

    def answered_by(self, answer: Message) -> bool:
        """True when `answer` may be to this one, whatever it says of the money."""
        terminal = (answer.text(41) or "").strip()
        return self.stan == answer.text(11) and answer.mti in self.accepted and terminal in ("", self.terminal)


class _UnansweredRequests:
    """Requests that are over but whose answer may still come."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._in_order: deque[_Pending] = deque()
        self._by_stan: dict[str, list[_Pending]] = {}

    def add(self, request: _Pending, now: float) -> None:
        """Remember a request that is over, and forget those that are too old."""
        while self._in_order and now - self._in_order[0].over_at > self._keep_s:
            old = self._in_order.popleft()
            namesakes = self._by_stan[old.stan]
            namesakes.remove(old)
            if not namesakes:
                del self._by_stan[old.stan]
        request.over_at = now
        self._in_order.append(request)
        self._by_stan.setdefault(request.stan, []).append(request)

    def may_mean(self, answer: Message, stan: str | None, now: float) -> bool:
        """True when `answer`, which names no terminal, may belong to one of them."""
        namesakes = self._by_stan.get(stan or "", ())
        return any(old.fits(answer, stan) and now - old.over_at <= self._keep_s for old in namesakes)


@dataclass(slots=True)
class _Session:
    """State of one connection."""

    link: Link
    heard_at: float
    """Time at which the last whole message came (monotonic seconds)."""
    up_at: float | None = None
    misbehaves: bool = False
    begun_at: float | None = None
    """Time at which the first byte of a message came whose last is not here (monotonic seconds)."""
    unreadable: int = 0
    unasked: int = 0
    """Unrequested messages since others had their turn."""
    pending: list[_Pending] = field(default_factory=list)
    unfetched: list[_Pending] = field(default_factory=list)
    """Answered requests whose caller has not been woken yet."""


class BankLink:
    """Link to a bank, see the module. Callbacks run in the event loop and must not block."""

    def __init__(
        self,
        config: BankLinkConfig,
        *,
        connect: Callable[[], Awaitable[Link]],
        clock: Clock,
        chance: random.Random,
        on_state: Callable[[BankLinkState], None] = lambda _: None,
        on_late: Callable[[Message], None] = lambda _: None,
        anchor: Callable[[], Anchor | None] = lambda: None,
    ) -> None:
        """`anchor` gives our ledger position, for sign-ins and echoes."""
        self._config = config
        self._connect = connect
        self._clock = clock
        self._chance = chance
        self._on_state = on_state
        self._on_late = on_late
        self._anchor = anchor
        self._session: _Session | None = None
        self._state = BankLinkState(BankState.DOWN, "not started")
        self._network_stan = NETWORK_STAN_FIRST - 1
        self._batches: dict[str, str] = {}
        # A request and then its answer may each be under way as long as a message can be.
        self._unanswered = _UnansweredRequests(2.0 * config.profile.max_message_age_s)
        # Of the link, not of a connection: a host that connects anew may not begin anew.
        self._budget = Budget(config.unasked_burst, config.unasked_per_s)
        self._unasked_log = LogStretch(log, config.device, "messages nobody asked for")

    @property
    def state(self) -> BankLinkState:
        """State of the connection now."""
        return self._state

    async def run(self) -> None:
        """Keep the link up until cancelled."""
        failures = 0
        try:
            while True:
                was_good = await self._connection()
                failures = 1 if was_good else failures + 1
                wait_s = self._backoff(failures)
                log.info("%s: next attempt in %.1f s", self._config.device, wait_s)
                await self._clock.sleep(wait_s)
        finally:
            self._enter(BankState.DOWN, "stopped")

    async def exchange(self, request: bytes, *, timeout_s: float) -> Message:
        """Send these very bytes and return the answer to them, whatever it says.

        Raises DeviceUnavailable (nothing sent), DeviceTimeout or LinkLost (unknown unless their outcome says
        otherwise), LocalProtocolError for bytes that are no request.
        """
        session = self._session
        if session is None or self._state.state is not BankState.UP:
            raise DeviceUnavailable(
                f"bank link is {self._state.state.value}: {self._state.cause}", device=self._config.device
            )
        return await self._exchange(session, request, timeout_s)

    # --- one connection -----------------------------------------------------------------------------------------

    async def _connection(self) -> bool:
        """Run one connection to its end. Returns whether it was up, and not only to misbehave."""
        self._enter(BankState.CONNECTING, "connecting")
        try:
            link = await self._connect()
        except DeviceError as error:
            self._enter(BankState.DOWN, str(error))
            return False
        session = _Session(link, self._clock.monotonic())
        self._session = session
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._read(session)), loop.create_task(self._keep(session))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            was_good = self._was_good(session)
            cause = "; ".join(task.result() for task in tasks if task in done)
            self._enter(BankState.DOWN, cause, misbehaved=session.misbehaves)
        finally:
            self._session = None
            self._unasked_log.end()
            # Callers hear of the loss before anybody may find the link down with their request still waiting.
            self._fail_pending(session)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await link.close()
        return was_good

    def _was_good(self, session: _Session) -> bool:
        if session.up_at is None:
            return False
        up_s = self._clock.monotonic() - session.up_at
        return not session.misbehaves or up_s >= self._config.backoff_max_s

    async def _read(self, session: _Session) -> str:
        """Read until the connection ends. Returns why."""
        framer = Framer()
        while True:
            try:
                data = await self._bytes(session)
            except DeviceError as error:
                return error.problem
            if not data and framer.pending:
                return f"the bank closed the connection in the middle of a message ({framer.pending} bytes)"
            if not data:
                return "the bank closed the connection"
            framer.feed(data)
            try:
                while (body := framer.next_frame()) is not None:
                    session.begun_at = None
                    await self._frame(session, body)
                    if session.unasked >= UNASKED_AT_ONCE:
                        session.unasked = 0
                        await asyncio.sleep(0)
            except RemoteProtocolError as error:
                session.misbehaves = True
                return f"unreadable bytes from the bank: {error}"
            except DeviceError as error:
                return error.problem
            if framer.pending and session.begun_at is None:
                session.begun_at = self._clock.monotonic()

    async def _bytes(self, session: _Session) -> bytes:
        """The next bytes; raises LinkLost, also when a message has begun and does not end."""
        if session.begun_at is None:
            return await session.link.read(READ_BYTES_MAX)
        left_s = session.begun_at + self._config.frame_timeout_s - self._clock.monotonic()
        try:
            async with asyncio.timeout(left_s):
                return await session.link.read(READ_BYTES_MAX)
        except TimeoutError as error:
            session.misbehaves = True
            problem = f"the bank began a message and did not end it within {self._config.frame_timeout_s:g} s: cut off"
            raise LinkLost(problem, device=self._config.device) from error

    async def _frame(self, session: _Session, body: bytes) -> None:
        if not body:
            session.heard_at = self._clock.monotonic()
            self._unasked(session)
            await session.link.write(KEEP_ALIVE)
            return
        try:
            message = decode(body, self._config.profile.dialect)
        except RemoteProtocolError as error:
            self._unasked(session)
            session.unreadable += 1
            log.warning("%s: unreadable message %d: %s", self._config.device, session.unreadable, error.problem)
            if session.unreadable >= UNREADABLE_MAX:
                raise
            return
        self._received(session, message)

    def _received(self, session: _Session, message: Message) -> None:
        session.heard_at = self._clock.monotonic()
        pending = self._match(session, message)
        if pending is not None:
            session.pending.remove(pending)
            session.unfetched.append(pending)
            pending.answer.set_result(message)
            return
        self._unasked(session)
        if is_request(message.mti):
            self._unasked_log.say(session.heard_at, "the bank sent a request, ignored: %r", message)
        else:
            self._unasked_log.say(session.heard_at, "answer nobody waits for: %r", message)
            first = next((answered for answered in session.unfetched if answered.answered_by(message)), None)
            if first is None:
                self._on_late(message)
            else:
                first.behind.append(message)

    def _unasked(self, session: _Session) -> None:
        """Count an unrequested message; raises LinkLost when there are too many."""
        if not self._budget.spend(self._clock.monotonic()):
            session.misbehaves = True
            config = self._config
            raise LinkLost(
                f"the bank sends too much that nobody asked for (more than {config.unasked_burst} messages at once, "
                f"{config.unasked_per_s:g} a second): cut off",
                device=config.device,
            )
        session.unasked += 1

    def _match(self, session: _Session, message: Message) -> _Pending | None:
        stan = message.text(11)
        terminal = (message.text(41) or "").strip()  # blanks are what some hosts send for nothing
        waiting = [pending for pending in session.pending if not pending.answer.done()]
        if terminal:
            named = (p for p in waiting if p.stan == stan and p.terminal == terminal and message.mti in p.accepted)
            return next(named, None)
        # Two requests may fit: taking either could give one car the other's approval.
        fitting = [pending for pending in waiting if pending.fits(message, stan)]
        if len(fitting) != 1 or self._unanswered.may_mean(message, stan, self._clock.monotonic()):
            return None
        return fitting[0]

    async def _keep(self, session: _Session) -> str:
        """Sign in, then watch the line. Returns why the connection must end."""
        config = self._config
        self._enter(BankState.SIGNING_IN, "connected")
        terminals = config.terminals or (config.profile.terminal,)
        try:
            for first in range(0, len(terminals), SIGN_INS_AT_ONCE):
                await self._sign_in_all(session, terminals[first : first + SIGN_INS_AT_ONCE])
        except DeviceError as error:
            return error.problem
        except RemoteProtocolError as error:
            return f"unusable sign-in answer: {error}"
        session.up_at = self._clock.monotonic()
        self._enter(BankState.UP, "signed in")
        misses = 0
        while misses < config.echo_misses_max:
            if misses == 0 and not await self._quiet(session):
                continue
            misses = 0 if await self._echo(session) else misses + 1
        return f"{misses} echoes unanswered"

    async def _quiet(self, session: _Session) -> bool:
        """Wait until the line could have been silent long enough. Returns whether it was."""
        heard_at = session.heard_at
        self._unasked_log.look(self._clock.monotonic())
        # Whether something was heard is asked of the record, not of a difference of times: rounding could leave a
        # rest too small to sleep, and this loop spinning.
        await self._clock.sleep(max(0.0, heard_at + self._config.echo_idle_s - self._clock.monotonic()))
        return session.heard_at == heard_at

    async def _sign_in_all(self, session: _Session, terminals: Sequence[str]) -> None:
        """Sign terminals in side by side. Raises what the first that failed raises, when all have ended."""
        ends = await asyncio.gather(*(self._sign_in(session, name) for name in terminals), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end

    async def _sign_in(self, session: _Session, terminal: str) -> None:
        profile = self._config.profile.at_terminal(terminal)
        batch = self._batches.get(terminal, UNKNOWN_BATCH)
        request = sign_in(profile, stan=self._next_network_stan(), batch=batch, anchor=self._anchor())
        try:
            message = await self._ask(session, request, self._config.sign_in_timeout_s)
            answer = parse_answer(message, profile.dialect.responses)
        except DeviceTimeout as error:
            raise DeviceUnavailable(f"sign-in of {terminal} not answered", device=self._config.device) from error
        if answer.response.response_class is not ResponseClass.APPROVED:
            raise DeviceRefused(
                f"sign-in of {terminal} refused: {answer.response.code} {answer.response.english}",
                device=self._config.device,
                hint="check terminal and merchant numbers with the bank",
            )
        self._batches[terminal] = answer.batch or batch

    async def _echo(self, session: _Session) -> bool:
        """True when the line lives: an answer, or any other whole message heard meanwhile."""
        profile = self._config.profile
        sent_at = self._clock.monotonic()
        request = echo(
            profile,
            stan=self._next_network_stan(),
            batch=self._batches.get(profile.terminal, UNKNOWN_BATCH),
            anchor=self._anchor(),
        )
        try:
            await self._ask(session, request, self._config.echo_timeout_s)
        except DeviceError as error:
            log.warning("%s: echo failed: %s", self._config.device, error.problem)
            return session.heard_at > sent_at
        return True

    # --- one request --------------------------------------------------------------------------------------------

    async def _ask(self, session: _Session, message: Message, timeout_s: float) -> Message:
        return await self._exchange(session, encode(message, self._config.profile.dialect), timeout_s)

    async def _exchange(self, session: _Session, request: bytes, timeout_s: float) -> Message:
        config = self._config
        try:
            message = decode(request, config.profile.dialect)
        except RemoteProtocolError as error:
            raise LocalProtocolError(f"{len(request)} bytes are no message: {error.problem}", data=request) from error
        if not is_request(message.mti):
            raise LocalProtocolError(f"MTI {message.mti} is not a request", field="MTI")
        stan = message.text(11)
        if stan is None:
            raise LocalProtocolError("request without F11 cannot be matched", field="F11")
        data = frame(request)
        if timeout_s <= 0:
            raise DeviceTimeout("deadline passed before sending", device=config.device, outcome=RequestOutcome.NOT_SENT)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        pending = _Pending(answer_mtis(message.mti), stan, message.text(41), message.text(4), future)
        self._admit(session, pending)
        try:
            async with asyncio.timeout(timeout_s):
                await session.link.write(data)
                return await pending.answer
        except TimeoutError as error:
            # The answer and the deadline may fall into one turn of the loop; an answer in hand must not be lost.
            if pending.answer.done() and not pending.answer.cancelled():
                return pending.answer.result()
            raise DeviceTimeout(
                f"no answer to {message.mti} STAN {stan} within {timeout_s:.3f} s", device=config.device
            ) from error
        except asyncio.CancelledError:
            answer = pending.answer
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self._on_late(answer.result())
            raise
        finally:
            self._unanswered.add(pending, self._clock.monotonic())
            for waiting in (session.pending, session.unfetched):
                if pending in waiting:
                    waiting.remove(pending)
            for later in pending.behind:
                self._on_late(later)

    def _admit(self, session: _Session, pending: _Pending) -> None:
        if len(session.pending) >= self._config.outstanding_max:
            raise DeviceUnavailable(f"{len(session.pending)} requests unanswered", device=self._config.device)
        for other in session.pending:
            if (other.stan, other.terminal) == (pending.stan, pending.terminal) and other.accepted & pending.accepted:
                raise DeviceUnavailable(
                    f"a request with STAN {pending.stan} of this terminal is under way already",
                    device=self._config.device,
                )
        session.pending.append(pending)

    def _fail_pending(self, session: _Session) -> None:
        for pending in session.pending:
            if not pending.answer.done():
                error = LinkLost(f"link broke before the answer to STAN {pending.stan}", device=self._config.device)
                pending.answer.set_exception(error)
                # The one who asked may be gone by now; then nobody fetches it, and asyncio must not complain.
                pending.answer.exception()
        session.pending.clear()

    # --- small parts --------------------------------------------------------------------------------------------

    def _backoff(self, failures: int) -> float:
        config = self._config
        doublings = min(failures - 1, config.backoff_doublings_max)
        longest = min(config.backoff_max_s, config.backoff_first_s * float(1 << doublings))
        return longest * self._chance.uniform(0.5, 1.0)

    def _next_network_stan(self) -> int:
        self._network_stan += 1
        if self._network_stan > NETWORK_STAN_LAST:
            self._network_stan = NETWORK_STAN_FIRST
        return self._network_stan

    def _enter(self, state: BankState, cause: str, *, misbehaved: bool = False) -> None:
        entered = BankLinkState(state, cause, misbehaved)
        if entered == self._state:
            return
        self._state = entered
        log.info("%s: %s (%s)", self._config.device, state.value, cause)
        self._on_state(entered)
