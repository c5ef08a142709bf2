"""Which process holds a lock, so that its number alone is not taken for it: numbers are used again.

In: a process number. Out: a mark of that process: the machine's boot and the moment of its start in it (Linux), or what
``ps`` says of its start (elsewhere); None where the process is gone, or nothing can be known of it.

    >>> mark_of(os.getpid()) == mark_of(os.getpid())
    True
    >>> is_alive(f"{os.getpid()} of-another-process")
    False
"""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
START_FIELD = 19  # of /proc/PID/stat, counted after the command's name: ticks from boot to the start of the process


def mark_of(pid: int) -> str | None:
    """The mark, without spaces."""
    try:
        if (PROC / "self" / "stat").exists():
            boot = (PROC / "sys" / "kernel" / "random" / "boot_id").read_text(encoding="ascii").strip()
            status = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
            return f"{boot}:{status.rpartition(')')[2].split()[START_FIELD]}"
        return _start_by_ps(pid)
    except (OSError, IndexError):
        return None


def _start_by_ps(pid: int) -> str | None:
    # os.popen imports subprocess when it is called, and not with this module: `validate` never pays for it
    with os.popen(f"ps -o lstart= -p {pid:d} 2>/dev/null") as done:  # noqa: S605 - a number is all that it is given
        return "_".join(done.read().split()) or None


def is_alive(holder: str) -> bool:
    """Whether the process that wrote this into its lock file ("number mark", or the number alone) is alive."""
    number, _, mark = holder.strip().partition(" ")
    if not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except PermissionError:  # another user's
        pass
    except (OSError, OverflowError):
        return False
    now = mark_of(int(number))
    return not mark or now is None or now == mark
