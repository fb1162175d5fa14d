"""A peer for the benchmark: Apprise, as a program would use it.

Sends COUNT notifications of about 300 bytes to URL from so many threads, each with an Apprise object of its own, and prints
notifications a second and microseconds of processor time for each.

    apprise_loop.py URL COUNT THREADS
"""
import sys
import threading
import time

import apprise


def make(url):
    one = apprise.Apprise()
    if not one.add(url):
        sys.exit("apprise does not take " + url)
    return one


def main():
    url, count, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    each = max(count // threads, 1)
    body = "x" * 200
    failures = []

    def work(one):
        for _ in range(each):
            if not one.notify(title="bench", body=body):
                failures.append(1)

    objects = [make(url) for _ in range(threads)]
    objects[0].notify(title="bench", body=body)
    workers = [threading.Thread(target=work, args=(one,)) for one in objects]
    started, cpu = time.monotonic(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    sent = each * threads
    print("%.0f %.2f" % (sent / seconds, cpu / sent * 1e6))
    sys.exit(1 if failures else 0)


main()
