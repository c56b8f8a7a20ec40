import os
import time

from dcm_processor import cancelled, progress


def follow(jobName, headers, params, added_params, **kwargs):
    """Prints each line of a file when the test has written it there, until the line is 'end'. 'progress 0.4 text' tells how far it is."""
    path = os.path.join(os.environ["BROWSER_TESTS"], headers["id"] + ".lines")
    print("waiting for lines", flush=True)
    done = 0
    while not cancelled():
        lines = []
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                lines = [line for line in file.readlines() if line.endswith("\n")]
        for line in lines[done:]:
            word, _, rest = line.strip().partition(" ")
            if word == "end":
                return {"lines": done}
            if word == "progress":
                fraction, _, text = rest.partition(" ")
                progress(float(fraction), text)
            else:
                print(line.rstrip("\n").encode().decode("unicode_escape"), flush=True)
            done += 1
        time.sleep(0.03)
    print("stopped in good order", flush=True)
