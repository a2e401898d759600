"""The virtual environment that dlt lives in: made on first use, kept between runs, one for each version."""

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

VERSION = "1.31.0"


def home() -> Path:
    """Where it is kept."""
    return Path(tempfile.gettempdir()) / f"igh-sync-benchmark-dlt-{VERSION}-python{sys.version_info.minor}"


def ensure_python(folder: Path | None = None) -> Path:
    """The interpreter of a virtual environment with dlt in it.

    Raises:
        RuntimeError: pip could not install it; says why.
    """
    folder = folder or home()
    python = folder / "bin" / "python"
    is_whole = folder / "whole"
    if not is_whole.exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", f"dlt[sqlalchemy]=={VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if done.returncode:
            msg = f"dlt cannot be installed: {done.stderr.strip().splitlines()[-1]}"
            raise RuntimeError(msg)
        is_whole.touch()
    return python


def remove() -> None:
    """Delete it."""
    shutil.rmtree(home(), ignore_errors=True)
