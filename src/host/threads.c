/* For pipe and fcntl where the compiler is asked for plain C99; because of this, core.c
** includes this file before all others. */
#if !defined(_WIN32) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L /* NOLINT(bugprone-reserved-identifier) */
#endif

#include "threads.h"

#ifdef _WIN32

#include <stddef.h>
#include <stdio.h>

/* Of windows.h, which has names for itself that other files have too. All are in kernel32,
** which every program has. */
__declspec(dllimport) void __stdcall AcquireSRWLockExclusive(void **lock);
__declspec(dllimport) void __stdcall ReleaseSRWLockExclusive(void **lock);
__declspec(dllimport) void *__stdcall CreateNamedPipeA(const char *name, unsigned long access,
                                                       unsigned long mode, unsigned long instances,
                                                       unsigned long out_size,
                                                       unsigned long in_size, unsigned long timeout,
                                                       void *security);
__declspec(dllimport) int __stdcall WriteFile(void *file, const void *bytes, unsigned long size,
                                              unsigned long *written, void *overlapped);
__declspec(dllimport) int __stdcall CloseHandle(void *handle);
__declspec(dllimport) unsigned long __stdcall GetCurrentProcessId(void);

enum {
  THREADS_DUPLEX = 0x3,                /* PIPE_ACCESS_DUPLEX */
  THREADS_FIRST_INSTANCE = 0x00080000, /* FILE_FLAG_FIRST_PIPE_INSTANCE */
  THREADS_NOWAIT = 0x1,                /* PIPE_NOWAIT: a writer never waits for room */
  THREADS_NOT_REMOTE = 0x8             /* PIPE_REJECT_REMOTE_CLIENTS */
};

static void *threads_mutex; /* a slim reader/writer lock is one pointer, NULL at first */

void threads_lock(void) { AcquireSRWLockExclusive(&threads_mutex); }
void threads_unlock(void) { ReleaseSRWLockExclusive(&threads_mutex); }
unsigned long threads_process(void) { return GetCurrentProcessId(); }

void threads_init_pipe(struct threads_pipe *p) { p->write_end = NULL; }
bool threads_is_open(const struct threads_pipe *p) { return p->write_end != NULL; }

/* A loop connects to it once. So there is a new one, by another name, for each that asks. */
void threads_open_pipe(struct threads_pipe *p) {
  static unsigned long count;
  void *pipe;
  threads_close_pipe(p);
  snprintf(p->name, sizeof(p->name), "\\\\.\\pipe\\luv-barrier-%lu-%p-%lu", GetCurrentProcessId(),
           (void *)p, ++count);
  pipe = CreateNamedPipeA(p->name, THREADS_DUPLEX | THREADS_FIRST_INSTANCE,
                          THREADS_NOWAIT | THREADS_NOT_REMOTE, 1, 64, 64, 0, NULL);
  if (pipe != (void *)-1) p->write_end = pipe; /* INVALID_HANDLE_VALUE */
}

void threads_close_pipe(struct threads_pipe *p) {
  if (p->write_end) CloseHandle(p->write_end);
  p->write_end = NULL;
}

/* If the pipe has no room, there is something to read; and if no loop has connected yet, the loop
** that does looks once by itself. */
void threads_write(const struct threads_pipe *p) {
  unsigned long written;
  if (p->write_end) (void)WriteFile(p->write_end, "", 1, &written, NULL);
}

void threads_read(const struct threads_pipe *p) { (void)p; }

#else

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static pthread_mutex_t threads_mutex = PTHREAD_MUTEX_INITIALIZER;

void threads_lock(void) { pthread_mutex_lock(&threads_mutex); }
void threads_unlock(void) { pthread_mutex_unlock(&threads_mutex); }
unsigned long threads_process(void) { return (unsigned long)getpid(); }

static bool threads_set_flags(int fd) {
  int flags = fcntl(fd, F_GETFL);
  return flags != -1 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != -1 &&
         fcntl(fd, F_SETFD, FD_CLOEXEC) != -1;
}

void threads_init_pipe(struct threads_pipe *p) { p->read_end = p->write_end = -1; }
bool threads_is_open(const struct threads_pipe *p) { return p->read_end != -1; }

void threads_open_pipe(struct threads_pipe *p) {
  int ends[2];
  if (threads_is_open(p) || pipe(ends) != 0) return;
  p->read_end = ends[0];
  p->write_end = ends[1];
  if (!threads_set_flags(ends[0]) || !threads_set_flags(ends[1])) threads_close_pipe(p);
}

void threads_close_pipe(struct threads_pipe *p) {
  if (threads_is_open(p)) {
    close(p->read_end);
    close(p->write_end);
  }
  threads_init_pipe(p);
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
