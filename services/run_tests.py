"""Runs the tests of the bundled services: `python3 services/run_tests.py [NAME | FOLDER ...]`, or those of a service that stands elsewhere.

Each service gets a virtual environment of its own in .build/services, from its requirements.txt as the worker makes one, and pytest. It is
made again when that text changes. Nothing is skipped: a package that cannot be installed is a failure, with what pip says. `--prepare` in
the place of names makes the environments and runs nothing.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

SERVICES = pathlib.Path(__file__).resolve().parent
CHECKOUT = SERVICES.parent
ENVIRONMENTS = CHECKOUT / ".build" / "services"
PYTEST = "pytest>=8,<9"
SYSTEM_PACKAGES = "# dcm: system-site-packages"


class Failed(Exception):
    """What went wrong, in a sentence."""


def main(names):
    prepares = names == ["--prepare"]
    names = [] if prepares else names
    known = {folder.parent.name: folder.parent for folder in sorted(SERVICES.glob("*/tests")) if any(folder.glob("test_*.py"))}
    chosen = {name: known.get(name, pathlib.Path(name).resolve()) for name in names} or known
    missing = [name for name, folder in chosen.items() if not (folder / "tests").is_dir()]
    if missing:
        print(f"There are no tests of {', '.join(missing)}; there are of {', '.join(known)}.", file=sys.stderr)
        return 2
    failures = []
    for name, folder in chosen.items():
        print(f"\nservice {name}", flush=True)
        try:
            python = environment(folder)
        except Failed as error:
            print(error, file=sys.stderr)
            failures.append(name)
            continue
        if prepares:
            continue
        # A service that stands elsewhere is tested by what it brings itself.
        shared = ["-c", SERVICES / "pytest.ini", "--rootdir", SERVICES] if folder.parent == SERVICES else ["-p", "no:cacheprovider"]
        command = [python, "-B", "-m", "pytest", "-q", *shared, folder / "tests"]
        if subprocess.run(command, cwd=folder, env=variables()).returncode != 0:
            failures.append(name)
    if failures:
        print(f"\nTests failed: {', '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0


def variables():
    # Not what the caller's own Python has been told.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "PYTHONPATH": str(CHECKOUT / "python"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}


def environment(service):
    """The interpreter of the environment of the service in this folder."""
    wanted = [service / "module" / "requirements.txt", service / "tests" / "requirements.txt"]
    present = [file for file in wanted if file.is_file()]
    own = wanted[0].read_text() if wanted[0].is_file() else ""
    lines = [line.strip() for line in own.splitlines()]
    sees_system = SYSTEM_PACKAGES in lines or all(not line or line.startswith("#") for line in lines)
    text = "\0".join([PYTEST, sys.version, str(sees_system)] + [file.read_text() for file in present])
    key = hashlib.sha256(text.encode()).hexdigest()
    folder = ENVIRONMENTS / service.name
    mark = folder / "made-from"
    python = folder / "bin" / "python"
    if mark.is_file() and mark.read_text() == key and python.exists():
        return python
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    venv = [sys.executable, "-m", "venv"] + (["--system-site-packages"] if sees_system else []) + [folder]
    run(venv, f"no virtual environment can be made in {folder} (Debian: apt-get install python3-venv)")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PYTEST]
    for file in present:
        install += ["-r", file]
    run(install, f"the packages of {service.name} cannot be installed; without them its tests cannot run (is the package index reachable?)")
    mark.write_text(key)
    print(f"environment made in {time.monotonic() - start:.0f} s", flush=True)
    return python


def run(command, what):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables())
    if done.returncode != 0:
        raise Failed(f"{what}:\n{done.stdout.strip()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
