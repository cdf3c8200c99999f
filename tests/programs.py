"""Programs of this project as processes of their own, gone when their test ends, however it ends."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def program(module, *arguments, **more):
    """`python -m module`, started; killed where the test has left it running, waited for, its pipes closed."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **more) as process:
        try:
            yield process
        finally:
            process.kill()
