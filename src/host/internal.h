/*
** The linkage of what the files of this module share. core.c makes them one
** translation unit in which all of it is static, so that the module exports
** luaopen_barrier_core and nothing else; each file also compiles by itself.
*/
#ifndef BARRIER_INTERNAL_H
#define BARRIER_INTERNAL_H

#ifndef INTERNAL
#define INTERNAL extern
#define INTERNAL_DATA /* of a definition */
#endif

/* For luaopen_barrier_core, also where everything is hidden by default, and where Lua
** is compiled as C++ and this with it. */
#ifdef __cplusplus
#define EXTERN_C extern "C"
#else
#define EXTERN_C extern
#endif
#if defined(_WIN32)
#define EXPORT EXTERN_C __declspec(dllexport)
#elif defined(__GNUC__)
#define EXPORT EXTERN_C __attribute__((visibility("default")))
#else
#define EXPORT EXTERN_C
#endif

#endif
