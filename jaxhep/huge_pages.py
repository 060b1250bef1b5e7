"""Large arrays in huge pages of 2 MiB: a training step that allocates gigabytes spends no half of its time on page faults.

XLA asks malloc for its temporary arrays anew on every call, and glibc hands them back to the system after it. On Linux
with transparent huge pages on request ("madvise", the usual setting) glibc asks for them where GLIBC_TUNABLES says so,
which must stand in the environment when the process starts.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with huge pages asked for, unless it already says something about them."""
    tunables = given.get("GLIBC_TUNABLES", "")
    if TUNABLE in tunables:
        return dict(given)
    return {**given, "GLIBC_TUNABLES": f"{tunables}:{TUNABLE}=1".lstrip(":")}


def restart_with_huge_pages() -> None:
    """Start this very command again, in the same process, with huge pages; do nothing where they cannot help.

    They cannot where the system gives them always or never, or is not Linux. GLIBC_TUNABLES=glibc.malloc.hugetlb=0
    keeps a command from restarting.
    """
    wanted = environment(os.environ)
    try:
        on_request = "[madvise]" in SETTING.read_text()
    except OSError:
        return
    if on_request and wanted != dict(os.environ):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)
