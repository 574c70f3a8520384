/*
** Preloaded where mremap loses memory (see test/qemu_mremap.c): it always fails, and
** allocators do without.
*/
#include <errno.h>
#include <stddef.h>

void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...);

void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...) {
  (void)old, (void)old_size, (void)new_size, (void)flags;
  errno = ENOMEM;
  return (void *)-1;
}
