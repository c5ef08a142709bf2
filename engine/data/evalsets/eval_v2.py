"""eval_v2: 100 questions of ten categories, ten each, written by hand.

A row is (section, difficulty, question, form of the answer, expected answer). Sections: core (60),
trace_sensitive (25: the answer is hard to see without intermediate results), edge_case (15). The second
derivation of each answer is in :mod:`engine.data.recheck.eval_v2`, which reads the question alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.data.model import EvalItem

DIGITS = "Reply with digits only."
PLAIN = "Write the number only, without trailing zeros."
CITY = "Reply with the name of the city."
SYMBOL = "Reply with the symbol."

C, T, E = "core", "trace_sensitive", "edge_case"
EASY, MEDIUM, HARD = "easy", "medium", "hard"

Question = tuple[str, str, str, str, str]

QUESTIONS: Mapping[str, tuple[Question, ...]] = {
    "arithmetic": (
        (C, EASY, "Compute 348 + 587.", DIGITS, "935"),
        (C, EASY, "Compute 1002 - 467.", DIGITS, "535"),
        (C, EASY, "What is the product of 36 and 25?", DIGITS, "900"),
        (C, EASY, "How often does 8 go into 744?", DIGITS, "93"),
        (C, EASY, "What do all whole numbers from 1 to 20 add up to?", DIGITS, "210"),
        (C, MEDIUM, "Compute 18 × 24 - 150 ÷ 6.", DIGITS, "407"),
        (C, MEDIUM, "What is 2 to the power of 11?", DIGITS, "2048"),
        (C, MEDIUM, "What is the greatest common divisor of 252 and 180?", DIGITS, "36"),
        (C, HARD, "What is the least common multiple of 84 and 126?", DIGITS, "252"),
        (T, HARD, "Compute ((45 - 18) × 12 + 76) ÷ 8.", DIGITS, "50"),
    ),
    "geometry": (
        (C, EASY, "A square has sides of 14 cm. What is its perimeter in centimetres?", DIGITS, "56"),
        (C, EASY, "A garden with four right angles is 23 m long and 17 m wide. How many square metres is it?", DIGITS, "391"),
        (C, EASY, "A triangle has a base of 18 cm and a height of 11 cm. What is its area in square centimetres?", DIGITS, "99"),
        (C, EASY, "How many degrees has each angle of an equilateral triangle?", DIGITS, "60"),
        (C, MEDIUM, "A cube has edges of 7 cm. What is the area of its whole surface in square centimetres?", DIGITS, "294"),
        (C, MEDIUM, "What do the interior angles of an octagon add up to, in degrees?", DIGITS, "1080"),
        (C, MEDIUM, "The parallel sides of a trapezium are 9 m and 15 m long and lie 8 m apart. What is its area in square metres?", DIGITS, "96"),
        (C, MEDIUM, "A rectangle has an area of 306 square metres and a length of 18 m. How many metres wide is it?", DIGITS, "17"),
        (C, HARD, "A ladder of 13 m leans on a wall, its foot 5 m from the wall. How many metres up does it reach?", DIGITS, "12"),
        (T, HARD, "A pool of 12 m by 8 m has a path around it that is 2 m wide on all four sides. How many square metres is the path?", DIGITS, "96"),
    ),
    "unit_conversion": (
        (C, EASY, "Convert 3.5 kilometres to metres.", DIGITS, "3500"),
        (C, EASY, "Convert 250 minutes to hours and minutes.", "Write it like this: 1 h 5 min.", "4 h 10 min"),
        (C, EASY, "Convert 2.75 kilograms to grams.", DIGITS, "2750"),
        (C, EASY, "How many seconds do 12 minutes have?", DIGITS, "720"),
        (C, MEDIUM, "Convert 45 square metres to square centimetres.", DIGITS, "450000"),
        (C, MEDIUM, "Convert 0.02 cubic metres to litres.", DIGITS, "20"),
        (C, MEDIUM, "Convert 20 degrees Celsius to degrees Fahrenheit.", DIGITS, "68"),
        (C, MEDIUM, "A film lasts 7500 seconds. How long is that?", "Write it as H:MM:SS.", "2:05:00"),
        (C, HARD, "A tap gives 250 millilitres every 4 seconds. How many litres is that in an hour?", DIGITS, "225"),
        (C, HARD, "A sheet of paper is 0.1 mm thick. How many metres high is a pile of 25000 sheets?", PLAIN, "2.5"),
    ),
    "general_knowledge": (
        (C, EASY, "What is the capital of Japan?", CITY, "Tokyo"),
        (C, EASY, "How many days has a leap year?", DIGITS, "366"),
        (C, EASY, "What is the chemical symbol for gold?", SYMBOL, "Au"),
        (C, EASY, "Which planet is fourth from the Sun?", "Reply with its name.", "Mars"),
        (C, EASY, "How many sides does an octagon have?", DIGITS, "8"),
        (C, EASY, "At how many degrees Celsius does water freeze at sea level?", DIGITS, "0"),
        (C, MEDIUM, "What is the capital of Australia?", CITY, "Canberra"),
        (C, MEDIUM, "What is the capital of Canada?", CITY, "Ottawa"),
        (C, MEDIUM, "What is the chemical symbol for lead?", SYMBOL, "Pb"),
        (C, MEDIUM, "Which year does the Roman numeral MCMXCIX stand for?", DIGITS, "1999"),
    ),
    "multi_step_word_problem": (
        (C, EASY, "A baker fills 12 trays with 8 rolls each and sells 71 rolls. How many rolls are left?", DIGITS, "25"),
        (C, EASY, "A book has 320 pages. Nora reads 45 pages a day for 6 days. How many pages remain?", DIGITS, "50"),
        (T, MEDIUM, "A bus sets off with 18 passengers. At the first stop 7 leave and 12 enter, at the second 9 leave and 4 enter. How many passengers are on the bus now?", DIGITS, "18"),
        (T, MEDIUM, "Three friends pay a bill of 96 coins. Omar pays twice as much as each of the other two, who pay the same. How many coins does Omar pay?", DIGITS, "48"),
        (T, MEDIUM, "A rope of 84 m is cut into two pieces, one of them 3 times as long as the other. How many metres long is the longer piece?", DIGITS, "63"),
        (T, MEDIUM, "A printer makes 15 pages a minute. It runs for 8 minutes, rests, and runs for 12 minutes more; 40 of the pages are thrown away. How many pages are kept?", DIGITS, "260"),
        (T, HARD, "A jacket costs 80 coins. The price goes up by 25 % and then down by 25 % of the new price. How many coins does it cost now?", DIGITS, "75"),
        (T, HARD, "Two towns are 390 km apart. From each a train sets off towards the other at the same moment, one at 70 km/h, one at 60 km/h. After how many hours do they meet?", DIGITS, "3"),
        (T, HARD, "It takes 6 workers 10 days to build a wall. How many days does it take 4 workers, all of them equally fast?", DIGITS, "15"),
        (T, HARD, "A tank for 600 litres holds 150 litres. A pipe brings 25 litres a minute while a leak loses 10 litres a minute. After how many minutes is the tank full?", DIGITS, "30"),
    ),
    "algebraic_reasoning": (
        (C, EASY, "Find y if y + 19 = 52.", DIGITS, "33"),
        (C, EASY, "Find k if 7k = 91.", DIGITS, "13"),
        (C, EASY, "If a = 6 and b = 4, what is 3a - 2b?", DIGITS, "10"),
        (C, MEDIUM, "Solve 5(x - 3) = 2x + 12 for x.", DIGITS, "9"),
        (C, MEDIUM, "A number is doubled, then 9 is added, and the result is 41. Which number is it?", DIGITS, "16"),
        (T, MEDIUM, "Two numbers add up to 58, and one is 12 larger than the other. Which is the smaller one?", DIGITS, "23"),
        (T, MEDIUM, "The square of x is 169, and x is negative. What is x?", "Reply with the number, with its sign.", "-13"),
        (T, HARD, "What is the larger solution of x² - 11x + 24 = 0?", DIGITS, "8"),
        (T, HARD, "If 2x + 3y = 31 and x - y = 3, what is y?", DIGITS, "5"),
        (T, HARD, "The product of two consecutive positive whole numbers is 342. Which is the smaller one?", DIGITS, "18"),
    ),
    "sequence_reasoning": (
        (C, EASY, "What comes next: 6, 13, 20, 27, …?", DIGITS, "34"),
        (C, EASY, "What comes next: 96, 48, 24, 12, …?", DIGITS, "6"),
        (C, EASY, "What comes next: 100, 91, 82, 73, …?", DIGITS, "64"),
        (C, MEDIUM, "These are the square numbers: 1, 4, 9, 16, 25, … What comes next?", DIGITS, "36"),
        (T, MEDIUM, "Each number is the sum of the two before it: 3, 5, 8, 13, 21, … What comes next?", DIGITS, "34"),
        (T, MEDIUM, "The gaps grow by the same amount each time: 2, 6, 12, 20, 30, … What comes next?", DIGITS, "42"),
        (T, MEDIUM, "Two rules take turns, plus 5 and times 2: 1, 6, 12, 17, 34, … What comes next?", DIGITS, "39"),
        (T, HARD, "A sequence grows evenly: 4, 11, 18, 25, … What is its term number 50?", DIGITS, "347"),
        (T, HARD, "These are the prime numbers in order: 2, 3, 5, 7, 11, 13, … What comes next?", DIGITS, "17"),
        (T, HARD, "How many terms has the evenly growing sequence 8, 14, 20, …, 122?", DIGITS, "20"),
    ),
    "formatting": (
        (C, EASY, "Write the year 2024 and the month 7 together.", "Use the form YYYY/MM.", "2024/07"),
        (C, EASY, "Write the word harvest in capital letters.", "Reply with the word only.", "HARVEST"),
        (C, EASY, "Join the words red, green and blue in this order.", "Use hyphens, without spaces.", "red-green-blue"),
        (C, MEDIUM, "Write 3 hours, 4 minutes and 9 seconds as a time.", "Use the form HH:MM:SS.", "03:04:09"),
        (C, MEDIUM, "Write the number 7250000 in groups of three digits.", "Put one space between the groups.", "7 250 000"),
        (C, MEDIUM, "Put these words in alphabetical order: pear, fig, apple, plum.", "Separate them by commas, without spaces.", "apple,fig,pear,plum"),
        (E, MEDIUM, "Write the fraction 18/24 in lowest terms.", "Use the form a/b.", "3/4"),
        (E, MEDIUM, "Write 0.000045 in scientific notation.", "Use the form 1.2e-3.", "4.5e-5"),
        (E, HARD, "Write the decimal number 45 in binary.", DIGITS, "101101"),
        (E, HARD, "Write the decimal number 3054 in hexadecimal.", "Use capital letters, without a prefix.", "BEE"),
    ),
    "numeric_precision": (
        (C, EASY, "Round 7.846 to one decimal place.", "Reply with the number only.", "7.8"),
        (C, EASY, "Compute 0.1 + 0.2 exactly.", PLAIN, "0.3"),
        (C, MEDIUM, "Compute 2.5 × 0.04 exactly.", PLAIN, "0.1"),
        (C, MEDIUM, "Write 5/8 as a decimal number.", PLAIN, "0.625"),
        (C, MEDIUM, "Round 123456 to the nearest thousand.", DIGITS, "123000"),
        (T, MEDIUM, "Compute 1 - 0.9 - 0.09 exactly.", PLAIN, "0.01"),
        (T, MEDIUM, "What is 12.5 % of 64?", DIGITS, "8"),
        (T, HARD, "Compute 22 ÷ 7, rounded to four decimal places.", "Reply with the number only.", "3.1429"),
        (T, HARD, "What is the square root of 2, rounded to three decimal places?", "Reply with the number only.", "1.414"),
        (E, HARD, "Round 2.675 to two decimal places; a last digit 5 is rounded up.", "Reply with the number only.", "2.68"),
    ),
    "edge_case": (
        (E, EASY, "What is 0 times 4817?", DIGITS, "0"),
        (E, EASY, "Which of the two is larger: -15 or -51?", "Reply with the number, with its sign.", "-15"),
        (E, MEDIUM, "Will the year 2100 be a leap year?", "Reply with yes or no.", "no"),
        (E, MEDIUM, "How many times does the letter r stand in the word strawberry?", DIGITS, "3"),
        (E, MEDIUM, "Which of the two numbers is larger: 9.11 or 9.9?", "Reply with the number as it stands here.", "9.9"),
        (E, MEDIUM, "It is 22:50. What time is it 100 minutes later?", "Use the form HH:MM.", "00:30"),
        (E, HARD, "What is (-3) × (-3) × (-3)?", "Reply with the number, with its sign.", "-27"),
        (E, HARD, "If 3 cats catch 3 mice in 3 minutes, how many minutes do 100 cats need for 100 mice?", DIGITS, "3"),
        (E, HARD, "A bat and a ball cost 110 cents together. The bat costs 100 cents more than the ball. How many cents does the ball cost?", DIGITS, "5"),
        (E, HARD, "A snail in a well of 10 m climbs 3 m each day and slides down 2 m each night. On which day does it reach the top?", DIGITS, "8"),
    ),
}  # fmt: skip


def items() -> list[EvalItem]:
    """The 100 items in the order of the file; ids are category and number, say ``v2-geometry-07``."""
    return [
        EvalItem(f"v2-{category}-{at:02d}", f"{question} {form}", answer, section, category, difficulty)
        for category, questions in QUESTIONS.items()
        for at, (section, difficulty, question, form, answer) in enumerate(questions, start=1)
    ]
