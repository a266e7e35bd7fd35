"""Coroutines without tasks: what waits for the network is resumed by the bytes themselves.

An asyncio Task costs two passes of the event loop for every wait. A `Driver` runs its coroutine at once and, when it
waits for a `Parked`, goes on inside the call that sets it. When the coroutine waits for anything else (a lock, a sleep,
another library), a real Task takes over from there, so everything that works in a Task works here. Prevents two
failures of doing this naively: resumes that nest until the stack ends (they queue instead), and
`asyncio.timeout`, which wants a current task (the driver is one while it runs).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")
_UNSET: Any = object()
_enter: Callable[[asyncio.AbstractEventLoop, Any], None] = asyncio._enter_task
_leave: Callable[[asyncio.AbstractEventLoop, Any], None] = asyncio._leave_task
OnDone = Callable[[Any, BaseException | None], None]
"""Called once with what the coroutine returned, or with what it raised."""


class Parked(Generic[Value]):
    """One value for one waiter. Belongs to one event loop; may be cleared and used again.

    A Task may await it too: it has the part of `asyncio.Future` that tasks rely on (`_asyncio_future_blocking`, see
    "Extending asyncio" in the Python documentation).
    """

    __slots__ = ("_asyncio_future_blocking", "_error", "_value", "_waiter")

    def __init__(self) -> None:
        self._asyncio_future_blocking = False
        self._value: Any = _UNSET
        self._error: BaseException | None = None
        self._waiter: Driver | tuple[Callable[[Any], object], Context | None] | None = None
        """A driver, or a Task's callback and its context."""

    def done(self) -> bool:
        """The value is there, or will never come."""
        return self._value is not _UNSET

    @property
    def given(self) -> Value | None:
        """The value, if it was set."""
        return None if self._value is _UNSET else self._value

    def set(self, value: Value) -> None:
        """Resume the waiter with this value. The first of several wins."""
        if self._value is _UNSET:
            self._value = value
            if self._waiter is not None:
                self._wake()

    def fail(self, error: BaseException) -> None:
        """Raise `error` where this is awaited."""
        if self._value is _UNSET:
            self._value, self._error = None, error
            if self._waiter is not None:
                self._wake()

    def clear(self) -> None:
        """Forget the value, to be awaited again."""
        self._value, self._error = _UNSET, None

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if isinstance(waiter, Driver):
            waiter._parked = None  # pyright: ignore[reportPrivateUsage]  # from here on a cancel must not queue it again
            waiter.resume()
        elif waiter is not None:
            callback, context = waiter
            asyncio.get_running_loop().call_soon(callback, self, context=context)

    def __await__(self) -> Generator[Parked[Value], None, Value]:
        if self._value is _UNSET:
            self._asyncio_future_blocking = True
            yield self
        if self._error is not None:
            raise self._error
        return self._value

    # what a Task asks of the thing that it waits for

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        if self._value is _UNSET:
            self._waiter = (callback, context)
        else:
            asyncio.get_running_loop().call_soon(callback, self, context=context)

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def cancel(self, msg: object = None) -> bool:
        """Called when the Task that waits here is cancelled."""
        if self._value is not _UNSET:
            return False
        self.fail(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))
        return True


class _Ready:
    """Drivers of one thread that can go on; the first resume on the stack runs them all."""

    __slots__ = ("queue", "running")

    def __init__(self) -> None:
        self.queue: deque[Driver] = deque()
        self.running = False


class _Threads(threading.local):
    def __init__(self) -> None:
        self.ready = _Ready()


_threads = _Threads()


class Driver:
    """A coroutine under way. Has the part of `asyncio.Task` that code inside it relies on."""

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_cancels",
        "_context",
        "_coroutine",
        "_finished",
        "_loop",
        "_on_done",
        "_parked",
        "_ready",
        "_task",
    )

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], on_done: OnDone | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._coroutine = coroutine
        self._on_done = on_done
        self._loop = loop
        self._context = copy_context()
        self._ready = _threads.ready
        self._task: asyncio.Task[Any] | None = None
        self._parked: Parked[Any] | None = None
        self._finished = False
        self._cancelled = False
        self._cancels = 0

    def done(self) -> bool:
        """It has returned or raised."""
        return self._finished

    def cancel(self, msg: object = None) -> bool:
        """Raise `asyncio.CancelledError` where the coroutine waits, soon; False when it has ended."""
        if self._finished:
            return False
        if self._task is not None:
            return self._task.cancel(msg)
        self._cancels += 1
        if not self._cancelled:
            self._cancelled = True
            parked, self._parked = self._parked, None
            if parked is not None:
                parked._waiter = None  # pyright: ignore[reportPrivateUsage]
                # never inside cancel(): whoever calls it (asyncio.timeout) first notes that it did
                self._loop.call_soon(self.resume)
        return True

    def cancelling(self) -> int:
        """Cancellations asked for and not taken back, as `asyncio.Task.cancelling`."""
        return self._cancels + (self._task.cancelling() if self._task is not None else 0)

    def uncancel(self) -> int:
        """Take one cancellation back, as `asyncio.Task.uncancel`."""
        if self._task is not None and self._task.cancelling():
            self._task.uncancel()
        elif self._cancels:
            self._cancels -= 1
        return self.cancelling()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def get_name(self) -> str:
        return "Driver"

    def get_coro(self) -> Coroutine[Any, Any, Any]:
        return self._coroutine

    def resume(self) -> None:
        """Go on now, or, inside another driver's step, as soon as that has paused."""
        ready = self._ready
        queue = ready.queue
        if ready.running:
            queue.append(self)
            return
        ready.running = True
        try:
            self._step()
            while queue:
                queue.popleft()._step()
        finally:
            ready.running = False

    def _step(self) -> None:
        if self._finished:
            return
        self._parked = None
        loop = self._loop
        outer: Any = None
        try:
            _enter(loop, self)
        except RuntimeError:  # a Task is running: rare, for bytes come when none is
            outer = asyncio.current_task(loop)
            _leave(loop, outer)
            _enter(loop, self)
        try:
            if self._cancelled:
                self._cancelled = False
                waits = self._context.run(self._coroutine.throw, asyncio.CancelledError())
            else:
                waits = self._context.run(self._coroutine.send, None)
        except StopIteration as stop:
            value, error = stop.value, None
        except BaseException as raised:
            value, error = None, raised
        else:
            if waits.__class__ is Parked:
                self._park(waits)
            else:
                self._become_task(waits)
            return
        finally:
            _leave(loop, self)
            if outer is not None:
                _enter(loop, outer)
        self._finish(value, error)

    def _park(self, parked: Parked[Any]) -> None:
        parked._asyncio_future_blocking = False  # pyright: ignore[reportPrivateUsage]
        if self._cancelled:  # by itself, while it ran
            self._ready.queue.append(self)
        else:
            parked._waiter = self  # pyright: ignore[reportPrivateUsage]
            self._parked = parked

    def _become_task(self, waits: Any) -> None:
        rest = _Rest(self._coroutine, waits)
        self._task = asyncio.Task(rest, loop=self._loop, context=self._context)
        self._task.add_done_callback(self._task_done)
        if self._cancelled:
            self._cancelled = False
            self._cancels -= 1
            self._task.cancel()

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self._finish(None, asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._finish(None, error)
        else:
            self._finish(task.result(), None)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        self._finished = True
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            try:
                on_done(value, error)
            except Exception as fault:  # one call's end must not keep the others in the queue from going on
                self._loop.call_exception_handler(
                    {"message": "a driver's on_done failed", "exception": fault}
                )
        elif error is not None and not isinstance(error, asyncio.CancelledError):
            self._loop.call_exception_handler({"message": "a driven coroutine failed", "exception": error})
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error


class _Rest(Coroutine[Any, Any, Any]):
    """A coroutine that has already begun and waits for `waits`, in the form in which a Task accepts it."""

    __slots__ = ("_began", "_coroutine", "_waits")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits: Any) -> None:
        self._coroutine = coroutine
        self._waits = waits
        self._began = False

    def send(self, value: Any) -> Any:
        if self._began:
            return self._coroutine.send(value)
        self._began = True
        waits, self._waits = self._waits, None
        return waits

    def throw(self, *error: Any) -> Any:
        if not self._began:  # cancelled before the Task's first step: what was awaited is cancelled with it
            self._began = True
            waits, self._waits = self._waits, None
            if waits is not None:
                waits.cancel()
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError("only a Task runs this")


def start(
    coroutine: Coroutine[Any, Any, Any],
    on_done: OnDone | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Driver:
    """Run `coroutine` up to its first wait, now; `on_done` is told how it ended.

    Inside another driver's step it begins when that has paused. Without `on_done`, an exception goes to the event
    loop's exception handler. `loop` is the running one; who knows it saves a system call (Python 3.11 asks for the
    process id each time).
    """
    driver = Driver(coroutine, on_done, loop or asyncio.get_running_loop())
    driver.resume()
    return driver
