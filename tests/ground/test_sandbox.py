"""A stranger's template is stopped by a limit, in seconds and without gigabytes; what templates are for goes on."""

from __future__ import annotations

import resource
import time

import pytest
from jinja2 import TemplateError

from engine.sandbox import MAX_SECONDS, Sandbox

DOUBLED = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = OP %}{% endfor %}{{ ns.x }}"
EXCEEDED = {
    "loops in loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "three loops over one list": "{% set r = range(9000)|list %}{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}",
    "a macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "a macro without end": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "doubled by ~": DOUBLED.replace("OP", "ns.x ~ ns.x"),
    "doubled by +": DOUBLED.replace("OP", "ns.x + ns.x"),
    "doubled by *": DOUBLED.replace("OP", "ns.x * 2"),
    "a text times a billion": "{{ 'a' * 1000000000 }}",
    "a list times a billion": "{{ [0] * 1000000000 }}",
    "a billion times a text": "{{ 1000000000 * 'a' }}",
    "doubled by replace": DOUBLED.replace("OP", "ns.x.replace('a', 'aa').replace('a', 'aa')"),
    "doubled by the filter": DOUBLED.replace("OP", "ns.x|replace('a', 'aaaa')"),
    "doubled by join": DOUBLED.replace("OP", "ns.x.join(['x', 'y', ns.x])"),
    "doubled by the join filter": DOUBLED.replace("OP", "['x', 'y', ns.x]|join(ns.x)"),
    "doubled by %": DOUBLED.replace("OP", "'%s%s' % (ns.x, ns.x)"),
    "doubled by format": DOUBLED.replace("OP", "'{0}{0}'.format(ns.x)"),
    "doubled by the format filter": DOUBLED.replace("OP", "'%s%s'|format(ns.x, ns.x)"),
    "doubled in a block": "{% set x = 'ab' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40 + "{{ x }}",
    "doubled lists": DOUBLED.replace("OP", "[ns.x, ns.x]"),
    "doubled lists, compared": DOUBLED.replace("OP", "[ns.x, ns.x]") + "{{ ns.x == ns.x }}",
    "doubled tuples": DOUBLED.replace("OP", "(ns.x, ns.x)"),
    "doubled mappings": DOUBLED.replace("OP", "{'a': ns.x, 'b': ns.x}"),
    "doubled mappings of dict()": DOUBLED.replace("OP", "dict(a=ns.x, b=ns.x)"),
    "doubled lists as JSON": DOUBLED.replace("OP", "[ns.x, ns.x]") + "{{ ns.x|tojson }}",
    "a wide %": "{{ '%1000000000d' % 1 }}",
    "a wide % by its argument": "{{ '%*d' % (1000000000, 1) }}",
    "a wide format": "{{ '{:1000000000}'.format(1) }}",
    "a wide indent": "{{ 'a'|indent(1000000000) }}",
    "a wide tojson": "{{ [1]|tojson(indent=1000000000) }}",
    "a wide tojson, by place": "{{ [1]|tojson(1000000000) }}",
    "a fine round": "{{ 2|round(1000000000) }}",
    "a wide batch": "{{ [1]|batch(1000000000, 'a')|list }}",
    "many slices": "{{ [1]|slice(1000000000)|list }}",
    "a power": "{{ 2 ** 100000000 }}",
    "a power of powers": "{{ 9 ** 9 ** 9 ** 9 }}",
    "a squared number": "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "a list of a million": "{{ range(90000)|list + range(90000)|list }}",
    "an output of gigabytes": "{% for i in range(9999) %}{{ 'a' * 100000 }}{% endfor %}",
    "sorted again and again": "{% for i in range(99999) %}{{ range(9999)|sort|list|length }}{% endfor %}",
    "brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "lists in lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "nested loops": "{% for a in b %}" * 300 + "{% endfor %}" * 300,
    "a megabyte": "a" * (1 << 20),
}  # fmt: skip
REFUSED = {
    "ljust": "{{ 'a'.ljust(1000000000) }}",
    "zfill": "{{ 'a'.zfill(1000000000) }}",
    "center": "{{ 'a'|center(1000000000) }}",
    "wordwrap": "{{ 'a'|wordwrap(1) }}",
    "expandtabs": "{{ '\\t'.expandtabs(1000000000) }}",
    "lorem ipsum": "{{ lipsum(n=1000000) }}",
    "chance": "{{ [1, 2]|random }}",
    "Python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "Python by a format": "{{ '{0.__class__.__init__.__globals__}'.format(self) }}",
    "globals of a function": "{{ cycler.__init__.__globals__ }}",
    "a changed list": "{% set x = [1] %}{{ x.append(2) }}",
}


@pytest.mark.parametrize(
    "template",
    [
        "{{ 20000|tojson }}",
        "{{ n|tojson }}",
        "{{ 20000|round|int }}",
        "{{ '20000'|indent(4) }}",
        "{{ (20000.4)|round(0)|int }}",
    ],
)
def test_a_number_may_be_large_where_it_is_no_width(template: str) -> None:
    """Law: the limit on widths is none on what is written: an eval set has more than 1,000 items."""
    environment = Sandbox()
    assert environment.bounded(lambda: environment.from_string(template).render(n=20000)) == "20000"


@pytest.mark.parametrize("name", [*EXCEEDED, *REFUSED])
def test_an_attack_ends_as_a_finding(name: str) -> None:
    """Law: an exception of Jinja's tree, within the time limit and one operation more, and without 300 MB."""
    text = EXCEEDED.get(name) or REFUSED[name]
    environment = Sandbox(extensions=["jinja2.ext.loopcontrols"])
    begun = time.thread_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TemplateError) as refused:
        environment.bounded(lambda: environment.from_string(text).render(b=[[1]]))
    assert time.thread_time() - begun < 3 * MAX_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB
    assert (type(refused.value).__name__ == "Exceeded") == (name in EXCEEDED), refused.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{% for k, v in {'a': 1}.items() %}{{ loop.last }}{{ k ~ v }}{% endfor %}", "Truea1"),
        ("{% for a in m if a > 1 %}{{ loop.index }}/{{ loop.length }}:{{ a }} {% endfor %}", "1/2:2 2/2:3 "),
        ("{% for a in m %}{{ a }}{% if a == 2 %}{% break %}{% endif %}{% endfor %}", "12"),
        ("{% for a in [] %}x{% else %}none{% endfor %}", "none"),
        ("{% for a in tree recursive %}{{ a.n }}{{ loop(a.c) }}{% endfor %}", "123"),
        ("{% macro m(a, b='x') %}<{{ a }}{{ b }}{{ caller() }}>{% endmacro %}{% call m(1) %}in{% endcall %}", "<1xin>"),
        ("{{ 'a-b'.split('-')|join('+') }}{{ ' x '.strip() }}{{ '%03d' % 7 }}{{ '{}'.format('f') }}", "a+bx007f"),
        ("{{ [1, 2] + m }}{{ (1, 2)|length }}{{ 7 // 2 }}{{ 2 ** 10 }}{{ 'ab' * 2 }}", "[1, 2, 1, 2, 3]231024abab"),
        ("{% set x, y = (1, 2) %}{{ y }}{% set z %}b{% endset %}{{ z|upper }}{{ undefined_name }}", "2B"),
        ("{{ m|map('string')|join(',') }}{{ {'a': [1]}|tojson }}", '1,2,3{"a": [1]}'),
    ],
)
def test_what_templates_do_goes_on(text: str, expected: str) -> None:
    """Law: the same text as from Jinja's own sandbox, whose loops, calls and filters are only counted."""
    environment = Sandbox(extensions=["jinja2.ext.loopcontrols"])
    values = {"m": [1, 2, 3], "tree": [{"n": 1, "c": [{"n": 2, "c": []}]}, {"n": 3, "c": []}]}
    assert environment.bounded(lambda: environment.from_string(text).render(**values)) == expected
