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

#endif
