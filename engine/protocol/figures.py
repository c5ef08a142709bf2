"""Numbers, sizes and durations as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """``48s``, ``1m 53s``, ``2h 05m``.

    >>> duration(113.4)
    '1m 53s'
    """
    if seconds < 10:
        return f"{seconds:.1f}s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded}s"
    if rounded < 3600:
        return f"{rounded // 60}m {rounded % 60:02}s"
    return f"{rounded // 3600}h {rounded % 3600 // 60:02}m"


def number(value: object) -> str:
    """A figure for people: 4 decimals below 100, thousands separated above.

    >>> number(0.95), number(7_300.4), number(730_112)
    ('0.9500', '7,300', '730,112')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"


def size(count: float) -> str:
    """Bytes for people, in powers of ten as for downloads and disks.

    >>> size(512), size(15_300_000), size(5_012_345_678)
    ('512 B', '15.3 MB', '5.01 GB')
    """
    for unit, scale, digits in (("GB", 1e9, 2), ("MB", 1e6, 1), ("kB", 1e3, 1)):
        if count >= scale:
            return f"{count / scale:.{digits}f} {unit}"
    return f"{count:.0f} B"
