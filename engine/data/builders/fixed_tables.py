"""The two fixed parts of dev-reasoning-v2: 35 golden-style questions and 20 edge cases, written by hand.

Golden-style: one fact, said with the reasoning that leads to it. The recheck looks each fact up in
tables of its own (:mod:`engine.data.recheck.facts`): the two were written down independently, as in
double-entry bookkeeping. Edge cases: questions whose naive answer is wrong, or whose form is odd.
"""

from __future__ import annotations

from engine.data.builders.problem import Problem


def _golden(question: str, reason: str, answer: str, form: str) -> Problem:
    steps = (("recall", reason), ("conclude", f"so the answer is {answer}"))
    return Problem(f"{question} {form}", steps, answer)


_CITY = "Give the name of the city only."
_WORD = "Answer with one word."
_SYMBOL = "Give the symbol only."
_NUMBER = "Give the number only."

GOLDEN: tuple[Problem, ...] = (
    _golden("What is the capital of Norway?", "Norway is governed from its largest city, at the Oslofjord", "Oslo", _CITY),
    _golden("What is the capital of Portugal?", "Portugal is governed from the mouth of the Tagus", "Lisbon", _CITY),
    _golden("What is the capital of Egypt?", "Egypt is governed from a city on the Nile near Giza", "Cairo", _CITY),
    _golden("What is the capital of Kenya?", "Kenya is governed from the highlands, not from Mombasa", "Nairobi", _CITY),
    _golden("What is the capital of Peru?", "Peru is governed from the coast, not from Cusco", "Lima", _CITY),
    _golden("What is the capital of Poland?", "Poland is governed from the Vistula, since 1596 not from Cracow", "Warsaw", _CITY),
    _golden("What is the capital of Thailand?", "Thailand is governed from the Chao Phraya", "Bangkok", _CITY),
    _golden("What is the capital of Austria?", "Austria is governed from the Danube", "Vienna", _CITY),
    _golden("What is the chemical symbol of iron?", "the Latin name is ferrum", "Fe", _SYMBOL),
    _golden("What is the chemical symbol of sodium?", "the Latin name is natrium", "Na", _SYMBOL),
    _golden("What is the chemical symbol of silver?", "the Latin name is argentum", "Ag", _SYMBOL),
    _golden("What is the chemical symbol of potassium?", "the Latin name is kalium", "K", _SYMBOL),
    _golden("What is the chemical symbol of helium?", "the name comes from helios, the sun", "He", _SYMBOL),
    _golden("What is the chemical symbol of copper?", "the Latin name is cuprum", "Cu", _SYMBOL),
    _golden("Which planet is third from the Sun?", "the order is Mercury, Venus, Earth", "Earth", _WORD),
    _golden("Which planet is sixth from the Sun?", "after Jupiter, the fifth, comes the one with the rings", "Saturn", _WORD),
    _golden("Which planet is eighth from the Sun?", "it is the last one, beyond Uranus", "Neptune", _WORD),
    _golden("How many sides does a hexagon have?", "hexa is Greek for six", "6", _NUMBER),
    _golden("How many sides does a heptagon have?", "hepta is Greek for seven", "7", _NUMBER),
    _golden("How many sides does a decagon have?", "deka is Greek for ten", "10", _NUMBER),
    _golden("How many letters has the English alphabet?", "it runs from A to Z", "26", _NUMBER),
    _golden("How many squares has a chessboard?", "8 × 8 = 64", "64", _NUMBER),
    _golden("How many hours has a week?", "7 × 24 = 168", "168", _NUMBER),
    _golden("How many minutes has a day?", "24 × 60 = 1440", "1440", _NUMBER),
    _golden("How many edges has a cube?", "4 at the bottom, 4 at the top, 4 upright: 4 + 4 + 4 = 12", "12", _NUMBER),
    _golden("How many vertices has a cube?", "4 at the bottom and 4 at the top: 4 + 4 = 8", "8", _NUMBER),
    _golden("Which gas do plants take from the air for photosynthesis?", "they build sugar from it and from water", "carbon dioxide", "Answer with two words, in small letters."),
    _golden("Which metal is liquid at room temperature?", "it melts at 39 degrees below zero, Celsius", "mercury", "Answer with one word, in small letters."),
    _golden("On which continent lies the Sahara?", "it reaches from the Atlantic to the Red Sea, south of the Mediterranean", "Africa", _WORD),
    _golden("On which continent lies the river Amazon?", "it flows from the Andes to the Atlantic", "South America", "Give the name of the continent."),
    _golden("Which ocean lies between Africa and Australia?", "it is bounded by Asia in the north", "Indian", "Give its name, without the word ocean."),
    _golden("What does the Roman numeral XIV stand for?", "X is 10, IV is 4: 10 + 4 = 14", "14", _NUMBER),
    _golden("What does the Roman numeral XL stand for?", "X before L is taken away: 50 - 10 = 40", "40", _NUMBER),
    _golden("At how many degrees Celsius does water boil at sea level?", "the scale was made so that freezing is 0 and boiling a round number", "100", _NUMBER),
    _golden("What is the smallest prime number?", "a prime has exactly two divisors; 1 has only one, the next number has two", "2", _NUMBER),
)  # fmt: skip


def _edge(question: str, answer: str, *steps: str) -> Problem:
    return Problem(question, tuple(("compute", step) for step in steps), answer)


EDGE: tuple[Problem, ...] = (
    _edge("What is 17 divided by 0? Answer with the word undefined if there is no such number.", "undefined",
          "a number times 0 is always 0, never 17", "so no quotient exists"),
    _edge("What is 0 divided by 23? Answer with the word undefined if there is no such number.", "0",
          "23 × 0 = 0", "so the quotient exists and is 0"),
    _edge("What is the sum of no numbers at all? Give the number only.", "0",
          "adding starts from 0", "nothing is added"),
    _edge("Was the year 1900 a leap year? Answer yes or no.", "no",
          "1900 is divisible by 100", "1900 ÷ 400 = 4.75, so not by 400", "a century year must be divisible by 400"),
    _edge("Was the year 1600 a leap year? Answer yes or no.", "yes",
          "1600 is divisible by 100", "1600 ÷ 400 = 4, so by 400 too"),
    _edge("Which is smaller, -8 or -3? Give the number only.", "-8",
          "-8 lies further left on the number line", "-8 < -3"),
    _edge("What is -7 - (-12)? Give the number only.", "5",
          "taking away a negative number adds it: -7 + 12 = 5"),
    _edge("How many times does the letter s occur in the word possesses? Give the number only.", "5",
          "p o s s e s s e s: two, then two, then one", "2 + 2 + 1 = 5"),
    _edge("How many times does the letter e occur in the word beekeeper? Give the number only.", "5",
          "b e e k e e p e r: two, then two, then one", "2 + 2 + 1 = 5"),
    _edge("Which number is larger, 0.9 or 0.11? Write it as it stands here.", "0.9",
          "with equally many places: 0.90 and 0.11", "0.9 > 0.11"),
    _edge("Which number is larger, 3.08 or 3.7? Write it as it stands here.", "3.7",
          "with equally many places: 3.08 and 3.70", "3.7 > 3.08"),
    _edge("What is 5 to the power of 0? Give the number only.", "1",
          "each lower power is the one above divided by 5: 5 ÷ 5 = 1"),
    _edge("A farmer has 17 sheep. All but 9 run away. How many are left? Give the number only.", "9",
          "all but 9 means that 9 stay"),
    _edge("How many whole numbers lie strictly between 10 and 20? Give the number only.", "9",
          "they are 11 to 19", "19 - 11 + 1 = 9"),
    _edge("How many fence posts does a straight fence of 60 m need, with one post every 10 m and at both ends? "
          "Give the number only.", "7",
          "60 ÷ 10 = 6", "one more post at the start: 6 + 1 = 7"),
    _edge("What is the median of 7, 1, 9, 4? Give the number only, without trailing zeros.", "5.5",
          "sorted: 1, 4, 7, 9", "(4 + 7) ÷ 2 = 5.5"),
    _edge("Write the number 007 without leading zeros.", "7",
          "leading zeros do not change the number"),
    _edge("What time is 45 minutes after 23:30? Write it as HH:MM.", "00:15",
          "30 minutes to midnight", "45 - 30 = 15, so a quarter past midnight"),
    _edge("What is the remainder when 6 is divided by 9? Give the number only.", "6",
          "9 × 0 = 0", "6 - 0 = 6"),
    _edge("How many months have at least 28 days? Give the number only.", "12",
          "the shortest month has 28 days", "so all 12 have at least 28"),
)  # fmt: skip
