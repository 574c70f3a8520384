"""threading.Barrier: python3 threading_barrier.py THREADS TRIPS prints nanoseconds a trip."""
import sys
import threading
import time

threads, trips = int(sys.argv[1]), int(sys.argv[2])
barrier = threading.Barrier(threads)


def body(index):
    barrier.wait()
    start = time.perf_counter_ns()
    for _ in range(trips):
        barrier.wait()
    if index == 0:
        print(f"{(time.perf_counter_ns() - start) / trips:.0f}")


running = [threading.Thread(target=body, args=(i,)) for i in range(threads)]
for thread in running:
    thread.start()
for thread in running:
    thread.join()
