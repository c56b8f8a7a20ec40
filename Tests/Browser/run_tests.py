"""Runs the tests of the pages in a real browser: `python3 Tests/Browser/run_tests.py [--bin FOLDER] [pytest options]`.

Playwright, pytest and axe come from PyPI into .build/browser, which is made again when requirements.txt changes; the browser is Debian's
chromium, or the one that CHROMIUM names. `--prepare` makes the environment and runs nothing. Nothing is skipped: what cannot be had is
a failure.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
ENVIRONMENT = CHECKOUT / ".build" / "browser" / "environment"
BROWSERS = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]


class Failed(Exception):
    """What went wrong, in a sentence."""


def main(arguments):
    try:
        python = environment()
        if arguments == ["--prepare"]:
            return 0
        browser = chromium(python)
        folder, arguments = programs(arguments)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    settings = {**variables(), "BROWSER_TESTS_BIN": str(folder), "BROWSER_TESTS_CHROMIUM": browser}
    command = [python, "-B", "-m", "pytest", "-q", "-c", HERE / "pytest.ini", "--rootdir", HERE, *(arguments or [HERE])]
    return subprocess.run(command, cwd=HERE, env=settings).returncode


def programs(arguments):
    """The folder of dcm-tool and the services, and the arguments without it."""
    folder = CHECKOUT / ".build" / "debug"
    if arguments[:1] == ["--bin"] and len(arguments) > 1:
        folder, arguments = pathlib.Path(arguments[1]).resolve(), arguments[2:]
    names = ["dcm-tool", "dcm-ingest", "dcm-router", "dcm-worker", "dcm-monitor"]
    missing = [name for name in names if not os.access(folder / name, os.X_OK)]
    if missing:
        raise Failed(f"{', '.join(missing)} cannot be run in {folder}: build them (swift build), or name their folder (--bin FOLDER).")
    return folder, arguments


def variables():
    # Not what the caller's own Python has been told.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}


def chromium(python):
    """The browser's program: the one that CHROMIUM names, the system's, or else the one that Playwright downloads."""
    named = os.environ.get("CHROMIUM")
    if named:
        found = shutil.which(named)
        if not found:
            raise Failed(f"CHROMIUM is {named}, which is no program.")
        return found
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return found
    done = run([python, "-m", "playwright", "install", "chromium"])
    if done.returncode != 0:
        raise Failed(
            "There is no browser: the tests of the pages need chromium (Debian: apt-get install chromium; CHROMIUM names another program),"
            f" and Playwright cannot download one:\n{done.stdout.strip()}"
        )
    return ""


def environment():
    """The interpreter of the environment."""
    wanted = HERE / "requirements.txt"
    key = hashlib.sha256("\0".join([sys.version, wanted.read_text()]).encode()).hexdigest()
    mark = ENVIRONMENT / "made-from"
    python = ENVIRONMENT / "bin" / "python"
    if mark.is_file() and mark.read_text() == key and python.exists():
        return python
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    ENVIRONMENT.parent.mkdir(parents=True, exist_ok=True)
    done = run([sys.executable, "-m", "venv", ENVIRONMENT])
    if done.returncode != 0:
        raise Failed(f"No virtual environment can be made in {ENVIRONMENT} (Debian: apt-get install python3-venv):\n{done.stdout.strip()}")
    done = run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted])
    if done.returncode != 0:
        raise Failed(f"The packages of the tests of the pages cannot be installed (is PyPI reachable?):\n{done.stdout.strip()}")
    mark.write_text(key)
    return python


def run(command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
