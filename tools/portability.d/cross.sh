# Windows, and musl on Linux: a Lua, luv with libuv, and what busted needs, compiled from
# Debian's sources, each Lua in a folder of its own.
# shellcheck shell=sh disable=SC2153,SC2154

WARNINGS="-std=c99 -O2 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
WINDOWS=x86_64-w64-mingw32

# source_apt COMMAND...: apt-get with lists and a cache of its own, so that it needs no root.
source_apt() {
  apt-get -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/parts" \
    -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" \
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 "$@"
}

# Sources of source code: this Debian, and the two that follow it.
source_lists() {
  apt=$work/sources/apt
  [ ! -e "$apt/updated" ] || return 0
  rm -rf "$apt"
  mkdir -p "$apt/parts" "$apt/lists/partial" "$apt/cache/archives/partial"
  for suite in $SUITE trixie forky; do
    echo "deb-src $(mirror) $suite main" >>"$apt/parts/portability.list"
  done
  source_apt update && touch "$apt/updated"
}

fetch_source() { # PACKAGE
  source_lists || return
  for suite in $SUITE trixie forky; do
    rm -rf "$work/sources/fetched"
    mkdir -p "$work/sources/fetched"
    (cd "$work/sources/fetched" && source_apt source --download-only "$1/$suite" &&
      dpkg-source --no-check --extract ./*.dsc tree) &&
      mv "$work/sources/fetched/tree" "$work/sources/$1" && return
  done
}

# need_sources PACKAGE...: Debian's sources, patched, as $work/sources/PACKAGE.
need_sources() {
  need_program dpkg-dev dpkg-source || return
  for package; do
    [ ! -d "$work/sources/$package" ] || continue
    say "fetching Debian's source of $package"
    logged "source-$package" fetch_source "$package" || return
  done
}

lua_source() { # TAG
  case $1 in
    luajit*) echo "$work/sources/luajit" ;;
    *) echo "$work/sources/lua$1" ;;
  esac
}

# What the two platforms have apart. $out is the folder of a Lua, $library what a module is
# linked with.
choose_windows() {
  compiler=$WINDOWS-gcc
  suffix=dll
  shared="-shared -static-libgcc" # as LuaRocks does it, without LUA_BUILD_AS_DLL
  libraries="-lws2_32 -lpsapi -liphlpapi -luserenv -luser32 -ladvapi32 -ldbghelp -lole32 -luuid
    -lshell32"
  cmake_flags="-DCMAKE_SYSTEM_NAME=Windows -DCMAKE_RC_COMPILER=$WINDOWS-windres"
}

choose_musl() {
  compiler=musl-gcc
  suffix=so
  shared="-shared -fPIC -isystem $work/musl/include"
  libraries=
  cmake_flags="-DCMAKE_C_FLAGS=-isystem\ $work/musl/include"
}

# The C files of a Lua that are no programs.
library_files() { # FOLDER
  for file in "$1"/*.c; do
    case $file in
      */lua.c | */luac.c | */print.c) ;;
      *) echo "$file" ;;
    esac
  done
}

lua_for_windows() { # TAG
  source=$(lua_source "$1")/src
  case $1 in
    5.*)
      # shellcheck disable=SC2046,SC2086
      $compiler -O2 $shared -DLUA_BUILD_AS_DLL -o "$out/$library" $(library_files "$source") &&
        $compiler -O2 -DLUA_BUILD_AS_DLL -o "$out/lua.exe" "$source/lua.c" "$out/$library"
      ;;
    luajit)
      make_luajit HOST_CC=gcc CROSS=$WINDOWS- TARGET_SYS=Windows &&
        cp "$out/build/src/lua51.dll" "$out" && cp "$out/build/src/luajit.exe" "$out/lua.exe"
      ;;
  esac
}

lua_for_musl() { # TAG
  source=$(lua_source "$1")/src
  case $1 in
    5.*)
      # shellcheck disable=SC2046
      $compiler -O2 -isystem "$work/musl/include" -DLUA_USE_POSIX -DLUA_USE_DLOPEN -Wl,-E \
        -o "$out/lua" $(library_files "$source") "$source/lua.c" -lm
      ;;
    luajit)
      # The unwinder of this machine's gcc needs this machine's libc.
      make_luajit CC=musl-gcc XCFLAGS=-DLUAJIT_NO_UNWIND && cp "$out/build/src/luajit" "$out/lua"
      ;;
  esac
}

make_luajit() {
  cp -R "$(lua_source luajit)" "$out/build" && make -C "$out/build/src" "$@"
}

build_libuv() {
  # shellcheck disable=SC2086
  eval "cmake -S '$work/sources/libuv1' -B '$work/$os/libuv' $cmake_flags" \
    '-DCMAKE_C_COMPILER=$compiler -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DCMAKE_BUILD_TYPE=Release' &&
    make -C "$work/$os/libuv" uv_a
}

# build_module NAME SOURCE [FLAG...]: a module in C for the Lua in $out.
build_module() {
  mkdir -p "$(dirname "$out/$1")"
  target=$out/$1.$suffix
  shift
  # shellcheck disable=SC2086
  $compiler -O2 $shared -I"$headers" "$@" ${library:+"$out/$library"} $libraries -o "$target"
}

# All that does not depend on the project; only what is not there yet.
build_lua() { # TAG
  headers=$(lua_source "$1")/src
  [ ! -e "$out/ready" ] || return 0
  rm -rf "$out"
  mkdir -p "$out"
  say "compiling for $os: Lua $1, luv, luafilesystem"
  logged "$os-$1-lua" "lua_for_$os" "$1" || return
  logged "$os-$1-luv" build_module luv -I"$work/sources/libuv1/include" -DLUA_LIB \
    -D_WIN32_WINNT=0x0602 -D_GNU_SOURCE -I"$work/sources/lua-compat53/c-api" \
    "$work/sources/lua-luv/src/luv.c" "$work/$os/libuv/libuv_a.a" || return
  logged "$os-$1-lfs" build_module lfs "$work/sources/lua-filesystem/src/lfs.c" || return
  touch "$out/ready"
}

platform_cross() { # OS TAG...
  os=$1
  shift
  need_program cmake cmake && need lua-busted test -f /usr/share/lua/5.4/busted/runner.lua &&
    need_sources libuv1 lua-luv lua-compat53 lua-filesystem || return
  "choose_$os"
  [ -e "$work/$os/libuv/libuv_a.a" ] || say "compiling for $os: libuv"
  mkdir -p "$work/$os"
  logged "$os-libuv" build_libuv || return
  for tag in $(luas "$@"); do
    out=$work/$os/$tag
    library=
    need_sources "$(basename "$(lua_source "$tag")")" && cross_run "$tag"
  done
}

# The specs. The programs of Windows understand this machine's paths with a drive before.
cross_run() { # TAG
  [ "$os" = musl ] || library=lua$(lua_version "$1" | tr -d .).dll
  build_lua "$1" || return
  # shellcheck disable=SC2086
  logged "$os-$1-core" build_module barrier/core $WARNINGS src/core.c || return
  say "$where, Lua $1"
  version=$(lua_version "$1")
  LUA_PATH="$root$PWD/lua/?.lua;$root$PWD/lua/?/init.lua;$root$PWD/?.lua"
  LUA_PATH="$LUA_PATH;$root$PWD/tools/portability.d/lua/?.lua"
  LUA_PATH="$LUA_PATH;$root/usr/share/lua/$version/?.lua;$root/usr/share/lua/$version/?/init.lua"
  LUA_CPATH="$root$out/?.$suffix"
  export LUA_PATH LUA_CPATH
  # Without this machine's Neovim, which cannot load the module.
  run="env NVIM_PROGRAM=no $out/lua"
  [ "$os" = musl ] || run="wine $out/lua.exe"
  # shellcheck disable=SC2086
  specs "$work/log/$os-$1.log" $run $BUSTED
  # shellcheck disable=SC2086
  names=$($run -e "$NAMES" | tr -d '\r')
  unset LUA_PATH LUA_CPATH
  record "$where" "$1" "$names"
}

platform_windows() {
  need_program gcc-mingw-w64-x86-64 $WINDOWS-gcc && need_program wine wine || return
  WINEPREFIX=$work/windows/wine
  WINEDEBUG=-all
  export WINEPREFIX WINEDEBUG
  where="Windows x86-64, $(wine --version | sed 's/^wine-\([0-9.]*\).*/wine \1/')"
  root=Z:
  platform_cross windows 5.4 5.1 luajit
}

# What musl-gcc does not find: headers that are the same for every libc, of the kernel and
# a part of Debian's luaconf.h.
need_musl() {
  need_program musl-tools musl-gcc || return
  mkdir -p "$work/musl/include"
  here=/usr/include/$(gcc -print-multiarch)
  for header in /usr/include/linux /usr/include/asm-generic "$here/asm" "$here"/lua*-multiarch.h
  do
    [ ! -e "$header" ] || ln -sfn "$header" "$work/musl/include"
  done
}

platform_musl() {
  need_musl || return
  where="Linux $(uname -m), musl $(dpkg-query -W -f '${Version}' musl | sed 's/-.*//')"
  root=
  platform_cross musl 5.4 5.1 luajit
}

# Debian's Lua as a library compiled as C++, whose errors are exceptions: they pass through
# luv and the module, both compiled as C.
platform_cxx() {
  need_program g++ g++ && need lua-luv has_module 5.4 luv &&
    need lua-busted has_module 5.4 busted && need liblua5.4-dev lua_headers 5.4 &&
    need_sources lua5.4 || return
  out=$work/cxx
  mkdir -p "$out"
  headers=$(lua_headers 5.4)
  # shellcheck disable=SC2086
  logged cxx-lua g++ -O2 -w -x c++ -I"$headers" "$work/sources/lua5.4/src/lua.c" -o "$out/lua" \
    -Wl,-E -llua5.4-c++ &&
    compiler=gcc shared="-shared -fPIC" suffix=so library='' libraries='' \
      logged cxx-core build_module barrier/core $WARNINGS src/core.c || return
  where="Debian 12, $(uname -m), Lua compiled as C++"
  say "$where"
  # shellcheck disable=SC2086
  specs "$work/log/cxx.log" env LUA_PATH="lua/?.lua;lua/?/init.lua;;" LUA_CPATH="$out/?.so;;" \
    "$out/lua" $BUSTED
  record "$where" 5.4 "$("$out/lua" -e "$NAMES")"
}

platform_compile() {
  need_program gcc-mingw-w64-x86-64 $WINDOWS-gcc && need_musl || return
  for tag in 5.4 5.1 luajit 5.2 5.3 5.5; do
    headers=$(lua_headers "$tag") || continue
    say "compiling for Windows, and with musl: $headers"
    # shellcheck disable=SC2086
    {
      logged compile $WINDOWS-gcc $WARNINGS -DLUA_BUILD_AS_DLL -I"$headers" -c src/core.c -o /dev/null
      logged compile musl-gcc $WARNINGS -isystem "$work/musl/include" -fPIC -I"$headers" \
        -c src/core.c -o /dev/null
    }
  done
}
