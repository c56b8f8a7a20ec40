"""Hands the same jobs to RQ: rq_submit.py <redis url> <stamps> graph|flat|one-by-one <count> <first number>.

The graph is one study's: pre, then A and B, C after A and B, store after all of these, clean after store. `one-by-one` submits a
study and waits until its last job has ended before it submits the next.
"""

import os
import sys
import time

import bench_jobs
import redis
import rq

GRAPH = {"pre": [], "A": ["pre"], "B": ["pre"], "C": ["A", "B"], "store": ["pre", "A", "B", "C"], "clean": ["store"]}
HEADERS = 40
LIMIT = 120.0
"""Seconds that one study may take."""


class Submitter:
    def __init__(self, url, stamps):
        self._queue = rq.Queue("bench", connection=redis.Redis.from_url(url))
        self._stamps = stamps

    def job(self, number, name, parents=None):
        # As much as the other side's jobs are given.
        tags = {f"Tag{index}": f"value {index} of {number}" for index in range(HEADERS)}
        arguments = {
            "jobName": name,
            "headers": {"id": f"resource-{number}", "tags": tags},
            "params": {"stamps": self._stamps},
            "added_params": {},
        }
        return self._queue.enqueue(bench_jobs.noop, kwargs=arguments, depends_on=parents or None, job_timeout=1800)

    def study(self, number):
        jobs = {}
        for name, parents in GRAPH.items():
            jobs[name] = self.job(number, name, [jobs[parent] for parent in parents])

    def wait(self, number):
        last = f"resource-{number} clean ".encode()
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            if os.path.exists(self._stamps):
                with open(self._stamps, "rb") as file:
                    if last in file.read():
                        return
            time.sleep(0.01)
        sys.exit(f"study {number} did not end within {LIMIT:.0f} s")


def main():
    url, stamps, kind, count, first = sys.argv[1:]
    submitter = Submitter(url, stamps)
    for number in range(int(first), int(first) + int(count)):
        if kind == "flat":
            submitter.job(number, "flat")
        else:
            submitter.study(number)
        if kind == "one-by-one":
            submitter.wait(number)
            # As on the other side: the workers are idle when the next one comes.
            time.sleep(0.05)


main()
