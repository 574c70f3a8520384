/*
** Fails if mremap loses memory of others. In qemu 7.2 it does, for 32-bit programs: one that
** gives back the end of a mapping also loses as much of what follows the mapping. LuaJIT's
** allocator does that when it has freed much, at the latest as it exits; so a script that
** fills a large table crashes there, without any module, and does not on the processor
** itself, nor in qemu 10.0. tools/portability runs this, and looks whether to do without.
*/
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#define SIZE ((size_t)1 << 20)

int main(void) {
  char *low = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *high = low + SIZE;
  if (low == MAP_FAILED) return 1;
  memset(low, 1, 2 * SIZE);
  if (mremap(low, SIZE, SIZE / 2, 0) != low) return 1;
  return *(volatile char *)high != 1;
}
