"""Callbacks that go wrong, each in its own way, and some that do not."""

import os
import time


def raises(**kwargs):
    raise ValueError("this callback always raises")


def hangs(**kwargs):
    while True:
        time.sleep(60)


def exits(**kwargs):
    os._exit(3)


def answers_nonsense(**kwargs):
    # Truthy, and with something that is no dictionary: accepted with nothing handed over, as upstream does.
    return [object(), "nonsense"]


def says_no(**kwargs):
    return [False, {"never": "seen"}]


def says_yes(jobName, headers, added_params, params):
    return True, {"saw": sorted(added_params)}
