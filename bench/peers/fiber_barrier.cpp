// Boost.Fiber's barrier: fiber_barrier PARTIES TRIPS prints nanoseconds of CPU time a wait.
#include <boost/fiber/all.hpp>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <vector>

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  const std::size_t parties = std::strtoul(argv[1], nullptr, 10);
  const std::size_t trips = std::strtoul(argv[2], nullptr, 10);
  boost::fibers::barrier barrier(parties);
  std::vector<boost::fibers::fiber> fibers;
  fibers.reserve(parties);
  for (std::size_t i = 0; i < parties; i++)
    fibers.emplace_back(std::allocator_arg, boost::fibers::fixedsize_stack(16 * 1024), [&] {
      for (std::size_t t = 0; t < trips; t++) barrier.wait();
    });
  const std::clock_t start = std::clock();
  for (auto &fiber : fibers) fiber.join();
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  std::printf("%.2f\n", seconds / static_cast<double>(parties * trips) * 1e9);
}
