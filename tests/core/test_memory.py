import platform
import subprocess
import sys
from pathlib import Path

import pytest
from copies import Copy, at_noon, entities

from igh_sync_core import memory

COUNT_ARENAS = """
import ctypes, sys, threading
from igh_sync_core import memory
if sys.argv[1] == "shared":
    memory.settle()
together = threading.Barrier(8)
def work():
    kept = [bytes(10_000) for _ in range(50)]
    together.wait(20)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(open(sys.argv[2]).read().count("<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no arenas")
def test_threads_share_two_arenas_of_the_c_library(tmp_path: Path) -> None:
    def arenas(how: str) -> int:
        command = [sys.executable, "-c", COUNT_ARENAS, how, f"{tmp_path}/malloc.xml"]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)  # noqa: S603 - our own command

    assert arenas("shared") <= 2 < arenas("apart")


LEAVE_GAPS = """
from pathlib import Path
from igh_sync_core import memory
def held_kb():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])
before = held_kb()
blocks = [bytes(2_000) for _ in range(20_000)]
kept = blocks[::50]
del blocks
freed = held_kb() - before
memory.give_back()
print(freed, held_kb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep no such gaps")
def test_memory_between_what_is_still_in_use_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVE_GAPS], capture_output=True, text=True, check=True)  # noqa: S603 - our own command

    freed_kb, left_kb = map(int, done.stdout.split())
    assert left_kb < freed_kb / 4


def test_a_run_that_wrote_something_gives_memory_back_and_one_without_news_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(memory, "give_back", lambda: given_back.append(1))
    copy = Copy(at_noon(300), {"sqlite_db_path": str(tmp_path / "copy.db")}, entities("vin_disease"))

    copy.sync()
    copy.sync()

    assert len(given_back) == 1


@pytest.mark.parametrize(("before", "after"), [(700, 20_000), (0, 0), (50_000, 50_000)])
def test_cycles_are_looked_for_more_rarely_never_more_often(before: int, after: int) -> None:
    settling = "from igh_sync_core import memory; memory.settle(); print(*gc.get_threshold())"
    code = f"import gc; gc.set_threshold({before}); {settling}"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own command

    assert int(told.split()[0]) == after
