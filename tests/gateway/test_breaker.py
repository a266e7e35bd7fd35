from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from baimo.gateway.breaker import Breaker, State


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_it_opens_after_so_many_failures_in_a_row_and_lets_one_call_try() -> None:
    clock, told = Clock(), list[tuple[str, State]]()
    breaker = Breaker(
        "m", failures=3, rest_s=30, now=clock, told=lambda name, state: told.append((name, state))
    )
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert not breaker.allows()
    assert breaker.rest == 30
    clock.time = 30
    assert breaker.ready()
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert breaker.allows()
    assert told == [("m", "open"), ("m", "half_open"), ("m", "closed")]


def test_a_probe_that_fails_opens_it_again() -> None:
    clock = Clock()
    breaker = Breaker("m", failures=1, rest_s=30, now=clock)
    breaker.failed()
    clock.time = 31
    assert breaker.allows()
    breaker.failed()
    clock.time = 60
    assert not breaker.allows()
    clock.time = 61
    assert breaker.allows()


def test_a_probe_that_was_given_up_leaves_its_place_to_the_next_call() -> None:
    clock = Clock()
    breaker = Breaker("m", failures=1, rest_s=30, now=clock)
    breaker.failed()
    clock.time = 31
    assert breaker.allows()
    breaker.gave_up()
    assert [breaker.allows(), breaker.allows()] == [True, False]


def test_a_probe_that_never_reports_blocks_for_one_rest_only() -> None:
    clock = Clock()
    breaker = Breaker("m", failures=1, rest_s=30, now=clock)
    breaker.failed()
    clock.time = 31
    assert breaker.allows()
    clock.time = 60
    assert not breaker.allows()
    clock.time = 61
    assert breaker.allows()


class Machine(RuleBasedStateMachine):
    """Whatever happens, it never blocks for longer than one rest after the last event."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker("m", failures=2, rest_s=10, now=self.clock)
        self.probes = 0

    @rule()
    def ask(self) -> None:
        half = self.breaker.state != "closed"
        if self.breaker.allows() and half:
            self.probes += 1

    @rule(good=st.booleans())
    def report(self, good: bool) -> None:
        (self.breaker.succeeded if good else self.breaker.failed)()

    @rule()
    def give_up(self) -> None:
        self.breaker.gave_up()

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds

    @invariant()
    def opens_again_in_time(self) -> None:
        assert self.breaker.rest <= 10 + 1e-9
        assert self.breaker.ready() == (self.breaker.rest == 0)


TestMachine = Machine.TestCase
