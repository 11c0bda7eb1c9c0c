"""The small languages of option values read what they write, and refuse everything else."""

import contextlib
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from generation_jobs.v1.job_pb2 import Lora
from hypothesis import given
from hypothesis import strategies as st

from job_service.client.cli.option_syntax import (
    Label,
    OptionSyntaxError,
    arguments_json,
    distinct_labels,
    format_lora,
    parse_argument,
    parse_int,
    parse_label,
    parse_length,
    parse_lora,
    parse_moment,
    parse_template,
    valid_text,
)

_Value = TypeVar("_Value")

_text = st.text(st.characters(exclude_categories=["Cs"]))
_strength = st.floats(-10, 10)
_any_text = st.text(st.characters()) | st.from_regex(r"[0-9a-z:=+.smhd-]*", fullmatch=True)


def unless_refused(parse: Callable[[str], _Value], text: str) -> _Value | None:
    """None if ``text`` is refused as it should be; any other exception fails the test."""
    with contextlib.suppress(OptionSyntaxError):
        return parse(text)
    return None


@given(name=_text.filter(bool), model=_strength, clip=_strength)
def test_a_lora_with_both_strengths_reads_back_whatever_its_name(
    name: str, model: float, clip: float
) -> None:
    lora = Lora(name=name, strength_model=model, strength_clip=clip)
    assert parse_lora(format_lora(lora)) == lora


@given(name=_text.filter(lambda name: name and ":" not in name), model=st.none() | _strength)
def test_strengths_may_be_left_out(name: str, model: float | None) -> None:
    lora = Lora(name=name, strength_model=model)
    assert parse_lora(format_lora(lora)) == lora


@pytest.mark.parametrize(
    ("text", "lora"),
    [
        ("detail.safetensors", Lora(name="detail.safetensors")),
        ("xl/detail:0.6", Lora(name="xl/detail", strength_model=0.6)),
        ("detail:-1:.5", Lora(name="detail", strength_model=-1, strength_clip=0.5)),
        ("a:b:1:2", Lora(name="a:b", strength_model=1, strength_clip=2)),
        ("detail:0", Lora(name="detail", strength_model=0)),
    ],
)
def test_loras(text: str, lora: Lora) -> None:
    assert parse_lora(text) == lora


@pytest.mark.parametrize(
    "text",
    [
        *("", ":0.5", "::", "detail:", "detail:0,8", "detail:high", "detail:nan", "detail:inf"),
        *("detail:1:", "detail::1", "detail:1_0", "detail: 1", "a:b:1", "\udcff"),
    ],
)
def test_no_loras(text: str) -> None:
    with pytest.raises(OptionSyntaxError):
        parse_lora(text)


@given(_any_text)
def test_reading_a_lora_answers_one_or_says_why_not(text: str) -> None:
    lora = unless_refused(parse_lora, text)
    if lora is not None:
        assert lora.name
        assert math.isfinite(lora.strength_model)
        assert math.isfinite(lora.strength_clip)
        assert lora.HasField("strength_model") or not lora.HasField("strength_clip")


@given(key=_text.filter(lambda key: key and "=" not in key), value=_text)
def test_a_label_reads_back(key: str, value: str) -> None:
    assert parse_label(f"{key}={value}") == Label(key, value)


@pytest.mark.parametrize("text", ["", "=", "=value", "key", "\udcff=1"])
def test_no_labels(text: str) -> None:
    with pytest.raises(OptionSyntaxError):
        parse_label(text)


@given(st.dictionaries(_text, _text), st.data())
def test_labels_are_gathered(labels: dict[str, str], data: st.DataObject) -> None:
    pairs = [Label(*item) for item in labels.items()]
    repeated = data.draw(st.permutations(pairs + pairs[:2]))
    assert distinct_labels(repeated) == labels


def test_one_key_has_one_value() -> None:
    with pytest.raises(OptionSyntaxError, match="'a' is given twice"):
        distinct_labels([Label("a", "1"), Label("b", "1"), Label("a", "2")])


@given(st.integers(), st.sampled_from([32, 64]))
def test_a_whole_number_is_read_if_it_fits(number: int, bits: int) -> None:
    if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        assert parse_int(str(number), bits=bits) == number
    else:
        with pytest.raises(OptionSyntaxError):
            parse_int(str(number), bits=bits)


@pytest.mark.parametrize("text", ["", "1.5", "1_000", " 1", "0x10", "\u0661", "--1", "1e3"])
def test_no_whole_numbers(text: str) -> None:
    with pytest.raises(OptionSyntaxError):
        parse_int(text, bits=64)


@given(
    days=st.integers(0, 9999),
    hours=st.integers(0, 99),
    minutes=st.integers(0, 99),
    seconds=st.integers(0, 99),
)
def test_a_length_is_the_sum_of_its_parts(
    days: int, hours: int, minutes: int, seconds: int
) -> None:
    assert parse_length(f"{days}d{hours}h{minutes}m{seconds}s") == timedelta(
        days=days, hours=hours, minutes=minutes, seconds=seconds
    )


@given(_any_text)
def test_a_length_is_one_or_is_refused(text: str) -> None:
    length = unless_refused(parse_length, text)
    assert length is None or length >= timedelta(0)


@pytest.mark.parametrize("text", ["", "15", "m", "1.5h", "-1h", "1 h", "1w", "999999999d" * 9])
def test_no_lengths(text: str) -> None:
    with pytest.raises(OptionSyntaxError):
        parse_length(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_with_a_zone_reads_back(moment: datetime) -> None:
    assert parse_moment(moment.isoformat()) == moment


def test_a_moment_without_a_zone_is_local() -> None:
    expected = datetime(2026, 5, 1, 18).astimezone(UTC)
    assert parse_moment("2026-05-01T18:00") == expected


def test_a_moment_may_be_a_length_from_now() -> None:
    before = datetime.now(UTC)
    moment = parse_moment("2h")
    assert before <= moment - timedelta(hours=2) <= datetime.now(UTC)


@given(_any_text)
def test_a_moment_is_one_or_is_refused(text: str) -> None:
    moment = unless_refused(parse_moment, text)
    assert moment is None or moment.tzinfo is UTC


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "25:00", "9999-12-31T23:59-23:59"])
def test_no_moments(text: str) -> None:
    with pytest.raises(OptionSyntaxError):
        parse_moment(text)


@given(_text)
def test_text_stays_as_it_is(text: str) -> None:
    assert valid_text(text) == text


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(OptionSyntaxError):
        valid_text("caf\udce9")


def test_arguments_become_one_object_with_numbers_as_they_were_written() -> None:
    given = ["scale=1.50", "seed=18446744073709551615", "name=a b", 'list=["x"]', "on=true"]
    text = arguments_json(list(map(parse_argument, given)))
    assert text == (
        '{"scale": 1.50, "seed": 18446744073709551615, "name": "a b", "list": ["x"], "on": true}'
    )
    assert arguments_json([]) == "{}"
    with pytest.raises(OptionSyntaxError, match="given twice"):
        arguments_json([parse_argument("a=1"), parse_argument("a=2")])


@pytest.mark.parametrize(("text", "template"), [("flux", ("flux", 0)), ("my-own@3", ("my-own", 3))])
def test_templates_are_named_with_or_without_a_version(
    text: str, template: tuple[str, int]
) -> None:
    assert parse_template(text) == template
