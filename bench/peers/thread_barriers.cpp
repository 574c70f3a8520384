// std::barrier and pthread_barrier_t: thread_barriers std|pthread THREADS TRIPS prints
// nanoseconds a trip.
#include <pthread.h>

#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

template <typename Wait>
void measure(int threads, long trips, Wait wait) {
  std::vector<std::thread> running;
  for (int i = 0; i < threads; i++) {
    running.emplace_back([=] {
      wait();
      auto start = std::chrono::steady_clock::now();
      for (long n = 0; n < trips; n++) wait();
      std::chrono::duration<double, std::nano> passed = std::chrono::steady_clock::now() - start;
      if (i == 0) std::printf("%.0f\n", passed.count() / static_cast<double>(trips));
    });
  }
  for (auto &thread : running) thread.join();
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  int threads = std::atoi(argv[2]);
  long trips = std::atol(argv[3]);
  if (std::string(argv[1]) == "std") {
    std::barrier barrier(threads);
    measure(threads, trips, [&barrier] { barrier.arrive_and_wait(); });
  } else {
    pthread_barrier_t barrier;
    if (pthread_barrier_init(&barrier, nullptr, static_cast<unsigned>(threads)) != 0) return 1;
    measure(threads, trips, [&barrier] { pthread_barrier_wait(&barrier); });
    pthread_barrier_destroy(&barrier);
  }
}
