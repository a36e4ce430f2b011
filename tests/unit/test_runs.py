"""What a run folder's numbers say of this process."""

import subprocess
import sys


def test_the_peak_of_memory_is_that_of_this_process_not_of_the_one_that_started_it():
    code = "from luthier.runs import peak_memory_bytes; print(peak_memory_bytes())"
    kept = bytearray(600 << 20)
    for place in range(0, len(kept), 4096):
        kept[place] = 1
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(done.stdout) < 500 << 20
