/*
** The linkage of what the files of this module share. core.c makes them one
** translation unit in which all of it is static, so that the module exports
** luaopen_barrier_core and nothing else; each file also compiles by itself.
*/
#ifndef BARRIER_INTERNAL_H
#define BARRIER_INTERNAL_H

#ifndef INTERNAL
#define INTERNAL extern
#endif

/* For luaopen_barrier_core, also where everything is hidden by default. */
#if defined(_WIN32)
#define EXPORT extern __declspec(dllexport)
#elif defined(__GNUC__)
#define EXPORT extern __attribute__((visibility("default")))
#else
#define EXPORT extern
#endif

#endif
