"""The stream demonstration of ``python -m dlexchange``."""

from dlexchange.doctor import streams


def test_demonstration_is_right_with_the_push_and_stale_without_it():
    outcome = streams.demonstrate()

    assert outcome.why == ""
    assert outcome.device
    assert outcome.is_right, outcome


def test_outcome_is_not_right_where_the_push_made_no_difference():
    seen = dict(returned_while_closed=True, consumer_waited=True, unrelated_finished=True)

    assert streams.Outcome("any", **seen, with_push=7, without_push=1).is_right
    assert not streams.Outcome("any", **seen, with_push=1, without_push=1).is_right
    assert not streams.Outcome("any", **seen, with_push=7, without_push=7).is_right


def test_demonstration_that_dies_says_why():
    outcome = streams.demonstrate(limit_s=0.001)

    assert "no answer within" in outcome.why
    assert not outcome.is_right
