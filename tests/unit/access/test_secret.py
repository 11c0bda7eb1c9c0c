"""Tokens as text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from job_service.access import secret


def test_a_token_is_what_secret_scanners_look_for() -> None:
    tokens = {secret.drawn() for _ in range(100)}
    assert len(tokens) == 100
    for token in tokens:
        assert re.fullmatch(r"genjobs_[0-9A-Za-z]{49}", token)
        assert secret.is_well_formed(token)
        assert len(secret.digest(token)) == 32


@given(st.data())
def test_a_mistyped_token_is_none(data: st.DataObject) -> None:
    token = secret.drawn()
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda one: one != token[place]))
    assert not secret.is_well_formed(token[:place] + other + token[place + 1 :])
    assert not secret.is_well_formed(token[:place])
    assert not secret.is_well_formed(token + other)


@given(st.text())
def test_no_other_text_is_a_token(text: str) -> None:
    assert not secret.is_well_formed(text)
    assert not secret.is_well_formed(secret.PREFIX + text)
