"""Who else is there, and what is watched there."""

from job_service.events.peers import BEAT, Peers


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_nobody_is_there_until_somebody_is_heard() -> None:
    peers = Peers(Clock())
    assert not peers.are_there
    peers.heard("a")
    assert peers.are_there


def test_somebody_is_expected_until_all_have_had_the_time_to_answer() -> None:
    clock = Clock()
    peers = Peers(clock)
    peers.expected()
    assert peers.are_there
    clock.now += BEAT / 2
    assert not peers.are_there


def test_two_signs_of_life_may_be_lost_but_not_three() -> None:
    clock = Clock()
    peers = Peers(clock)
    peers.heard("a")
    clock.now += 3 * BEAT
    assert peers.are_there
    clock.now += BEAT
    assert not peers.are_there


def test_who_leaves_is_gone_and_the_others_are_not() -> None:
    clock = Clock()
    peers = Peers(clock)
    peers.heard("a")
    peers.heard("b")
    peers.left("a")
    assert peers.are_there
    peers.left("b")
    peers.left("b")
    assert not peers.are_there


def test_what_is_wanted_is_forgotten_unless_it_is_said_again() -> None:
    clock = Clock()
    peers = Peers(clock)
    assert not peers.wanted("progress of 5")
    peers.want("progress of 5")
    clock.now += 2 * BEAT
    peers.want("progress of 6")
    assert peers.wanted("progress of 5")
    clock.now += 2 * BEAT
    peers.forget_old()
    assert not peers.wanted("progress of 5")
    assert peers.wanted("progress of 5", "progress of 6")
