rockspec_format = "3.0"
package = "luv-barrier"
version = "dev-1"
source = {
  url = "git+https://github.com/luv-barrier/luv-barrier.git",
}
description = {
  summary = "Groups and barriers for coroutines and callbacks on luv, in Lua and Neovim",
  detailed = [[
A group runs jobs at the same time and tells you when all are done, with every result and
every error. It limits how many run, stops the rest at the first failure, or keeps what came
in time. A barrier, after Python's asyncio.Barrier, lets coroutines, callbacks, threads or
machines meet, as often as you like.]],
  labels = { "async", "coroutine", "luv", "libuv", "neovim", "synchronization" },
  license = "MIT",
  homepage = "https://github.com/luv-barrier/luv-barrier",
  issues_url = "https://github.com/luv-barrier/luv-barrier/issues",
}
dependencies = {
  "lua >= 5.1",
  "luv >= 1.36.0",
}
test_dependencies = {
  "busted >= 2.0",
}
test = {
  type = "command",
  script = "tools/busted.lua",
}
build = {
  type = "builtin",
  modules = {
    ["barrier"] = "lua/barrier/init.lua",
    ["barrier._meta"] = "lua/barrier/_meta.lua",
    ["barrier.await"] = "lua/barrier/await.lua",
    ["barrier.build"] = "lua/barrier/build.lua",
    ["barrier.debug"] = "lua/barrier/debug.lua",
    ["barrier.environment"] = "lua/barrier/environment.lua",
    ["barrier.frames"] = "lua/barrier/frames.lua",
    ["barrier.group"] = "lua/barrier/group.lua",
    ["barrier.group_jobs"] = "lua/barrier/group_jobs.lua",
    ["barrier.group_options"] = "lua/barrier/group_options.lua",
    ["barrier.group_start"] = "lua/barrier/group_start.lua",
    ["barrier.health"] = "lua/barrier/health.lua",
    ["barrier.lua_core.arguments"] = "lua/barrier/lua_core/arguments.lua",
    ["barrier.lua_core.drain"] = "lua/barrier/lua_core/drain.lua",
    ["barrier.lua_core.loop"] = "lua/barrier/lua_core/loop.lua",
    ["barrier.lua_core.machine"] = "lua/barrier/lua_core/machine.lua",
    ["barrier.lua_core.methods"] = "lua/barrier/lua_core/methods.lua",
    ["barrier.lua_core.turns"] = "lua/barrier/lua_core/turns.lua",
    ["barrier.lua_core.waits"] = "lua/barrier/lua_core/waits.lua",
    ["barrier.lua_core.yieldable"] = "lua/barrier/lua_core/yieldable.lua",
    ["barrier.missing"] = "lua/barrier/missing.lua",
    ["barrier.neovim"] = "lua/barrier/neovim.lua",
    ["barrier.redis"] = "lua/barrier/redis.lua",
    ["barrier.redis_connection"] = "lua/barrier/redis_connection.lua",
    ["barrier.redis_member"] = "lua/barrier/redis_member.lua",
    ["barrier.redis_script"] = "lua/barrier/redis_script.lua",
    ["barrier.run"] = "lua/barrier/run.lua",
    ["barrier.stuck"] = "lua/barrier/stuck.lua",
    -- Includes the other files of src: it alone is compiled.
    ["barrier.core"] = { sources = { "src/core.c" } },
  },
  -- LuaRocks adds these to doc by itself only where no directory is copied.
  install = {
    conf = {
      ["../doc/LICENSE"] = "LICENSE",
      ["../doc/README.md"] = "README.md",
      ["../doc/CHANGELOG.md"] = "CHANGELOG.md",
    },
  },
  copy_directories = { "doc", "examples" },
}
