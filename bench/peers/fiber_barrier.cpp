// Boost.Fiber's barrier: fiber_barrier PARTIES TRIPS
// What it has no barrier for, by hand, with its condition variable: fiber_barrier PARTIES TRIPS
// timeout|watch
#include <boost/fiber/all.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <mutex>
#include <vector>

namespace {

std::size_t parties, trips;

// What a fiber waits for: the next generation.
class phases {
 public:
  // Arrives, and waits at most an hour for the others.
  void wait_for() {
    std::unique_lock<boost::fibers::mutex> lock(mutex_);
    const std::size_t mine = generation_;
    if (++arrived_ == parties) {
      trip();
      return;
    }
    changed_.wait_for(lock, std::chrono::hours(1), [&] { return generation_ != mine; });
  }

  // Waits for a trip, as no party.
  void watch() {
    std::unique_lock<boost::fibers::mutex> lock(mutex_);
    const std::size_t mine = generation_;
    changed_.wait(lock, [&] { return generation_ != mine; });
  }

  void arrive() {
    std::unique_lock<boost::fibers::mutex> lock(mutex_);
    trip();
  }

 private:
  void trip() {
    arrived_ = 0;
    generation_++;
    changed_.notify_all();
  }

  boost::fibers::mutex mutex_;
  boost::fibers::condition_variable changed_;
  std::size_t arrived_ = 0, generation_ = 0;
};

// Nanoseconds of CPU time for each of `parties * trips`, while `parties` fibers run `body`.
template <typename Body, typename Driver>
double measure(Body body, Driver driver) {
  std::vector<boost::fibers::fiber> fibers;
  fibers.reserve(parties);
  for (std::size_t i = 0; i < parties; i++)
    fibers.emplace_back(std::allocator_arg, boost::fibers::fixedsize_stack(16 * 1024), [&] {
      for (std::size_t t = 0; t < trips; t++) body();
    });
  const std::clock_t start = std::clock();
  driver();
  for (auto &fiber : fibers) fiber.join();
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  return seconds / static_cast<double>(parties * trips) * 1e9;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  const char *what = argc > 3 ? argv[3] : "wait";
  parties = std::strtoul(argv[1], nullptr, 10);
  trips = std::strtoul(argv[2], nullptr, 10);
  boost::fibers::barrier barrier(parties);
  phases p;
  double cost;
  if (std::strcmp(what, "wait") == 0) {
    cost = measure([&] { barrier.wait(); }, [] {});
  } else if (std::strcmp(what, "timeout") == 0) {
    cost = measure([&] { p.wait_for(); }, [] {});
  } else if (std::strcmp(what, "watch") == 0) {
    cost = measure([&] { p.watch(); }, [&] {
      for (std::size_t t = 0; t < trips; t++) {
        boost::this_fiber::yield(); // everybody watches
        p.arrive();
      }
    });
  } else {
    return 2;
  }
  std::printf("%.2f\n", cost);
}
