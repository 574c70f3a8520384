/* For pipe and fcntl where the compiler is asked for plain C99; because of this, core.c
** includes this file before all others. */
#if !defined(_WIN32) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L /* NOLINT(bugprone-reserved-identifier) */
#endif

#include "threads.h"

#ifdef _WIN32

/* Of windows.h, which has names for itself that other files have too. */
__declspec(dllimport) void __stdcall AcquireSRWLockExclusive(void **lock);
__declspec(dllimport) void __stdcall ReleaseSRWLockExclusive(void **lock);

static void *threads_mutex; /* a slim reader/writer lock is one pointer, NULL at first */

void threads_lock(void) { AcquireSRWLockExclusive(&threads_mutex); }
void threads_unlock(void) { ReleaseSRWLockExclusive(&threads_mutex); }

void threads_open_pipe(struct threads_pipe *p) { (void)p; }
void threads_close_pipe(struct threads_pipe *p) { (void)p; }
void threads_write(const struct threads_pipe *p) { (void)p; }
void threads_read(const struct threads_pipe *p) { (void)p; }

#else

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

static pthread_mutex_t threads_mutex = PTHREAD_MUTEX_INITIALIZER;

void threads_lock(void) { pthread_mutex_lock(&threads_mutex); }
void threads_unlock(void) { pthread_mutex_unlock(&threads_mutex); }

static bool threads_set_flags(int fd) {
  int flags = fcntl(fd, F_GETFL);
  return flags != -1 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != -1 &&
         fcntl(fd, F_SETFD, FD_CLOEXEC) != -1;
}

void threads_open_pipe(struct threads_pipe *p) {
  int ends[2];
  if (pipe(ends) != 0) return;
  p->read_end = ends[0];
  p->write_end = ends[1];
  if (!threads_set_flags(ends[0]) || !threads_set_flags(ends[1])) threads_close_pipe(p);
}

void threads_close_pipe(struct threads_pipe *p) {
  if (p->read_end != -1) {
    close(p->read_end);
    close(p->write_end);
  }
  p->read_end = p->write_end = -1;
}

/* There is room for its byte, so that this neither blocks nor fails. */
void threads_write(const struct threads_pipe *p) {
  if (p->write_end != -1)
    while (write(p->write_end, "", 1) == -1 && errno == EINTR) continue;
}

void threads_read(const struct threads_pipe *p) {
  char byte;
  if (p->read_end != -1)
    while (read(p->read_end, &byte, 1) == -1 && errno == EINTR) continue;
}

#endif
