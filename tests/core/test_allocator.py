"""Freed memory is used again, in threads too: hardly a page fault after the first."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_COUNT = """
import ctypes, resource, sys, threading
from gr_jax.core import allocator
if sys.argv[1] == "kept":
    assert allocator.keep_freed_pages()
size = 100_000_000
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def use():
    for _ in range(3):
        block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
        ctypes.memset(block, 1, size)
        libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=use)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    command = [sys.executable, "-c", _COUNT, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_freed_pages_are_not_asked_for_again() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("needs glibc")
    # Three blocks of 100 MB in pages of 4 KB are 73,000 faults.
    assert _faults("kept") < 1000 < 50_000 < _faults("returned")
