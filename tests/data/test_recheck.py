"""The evaluator and the reader of statements: exact, and not fooled by text around the numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.recheck import derive
from engine.data.recheck.evaluate import false_statement, numbers, value
from engine.data.recheck.facts import roman


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("2 + 3 × 4", 14),
        ("(2 + 3) × 4", 20),
        ("8 ÷ 4 ÷ 2", 1),
        ("10 - 3 - 2", 5),
        ("-3 × -3 × -3", -27),
        ("7 - (-12)", 19),
        ("0.1 + 0.2", Fraction(3, 10)),
        ("1 ÷ 3", Fraction(1, 3)),
    ],
)
def test_expressions_follow_the_usual_order_exactly(text, result):
    assert value(text) == result


@pytest.mark.parametrize("text", ["", "2 +", "(2", "2 2", "2 x 3", ")"])
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(ValueError, match=r"^(not an|the) expression|bracket|Invalid literal"):
        value(text)


@given(a=st.integers(-999, 999), b=st.integers(-999, 999), c=st.integers(-999, 999))
def test_the_evaluator_agrees_with_python(a, b, c):
    assert value(f"({a}) + ({b}) × ({c}) - ({a} - {b})") == a + b * c - (a - b)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("2 + 2 = 4", None),
        ("2 + 2 = 5", "2 + 2 = 5"),
        ("together they are 3 × 4 = 12, then 12 - 2 = 11", "12 - 2 = 11"),
        ("3x = 15", None),
        ("x = 7", None),
        ("180 < 198", None),
        ("198 < 180", "198 < 180"),
        ("3=3", None),
        ("-8 < -3", None),
        ("-7 + 12 = 5", None),
        ("(4 + 7) ÷ 2 = 5.5", None),
        ("5 ÷ 0 = 1", "5 ÷ 0 = 1"),
    ],
)
def test_false_statements_are_found_in_text(text, wrong):
    assert false_statement(text) == wrong


def test_a_minus_between_numbers_is_no_sign():
    assert numbers("5 - 3 and -2, x2, 1.5") == [5, 3, -2, Fraction(3, 2)]


@pytest.mark.parametrize(("numeral", "number"), [("XIV", 14), ("XL", 40), ("MCMXCIX", 1999), ("MMXXIV", 2024)])
def test_roman_numerals(numeral, number):
    assert roman(numeral) == number


def test_a_question_that_no_method_knows_has_no_answer():
    assert derive("no.such.type", "2 + 2 = ?") is None
    assert derive("general_knowledge.fact", "Who?") is None
    assert derive("unit_conversion.metric", "How far?") is None
