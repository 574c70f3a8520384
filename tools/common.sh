# What the scripts in this folder share. They run in the project's folder.
#
# A tag names a Lua and the headers to build for it: 5.1 to 5.5, luajit, and
# luajit-5.1, LuaJIT with a module built against PUC Lua 5.1's headers, as
# LuaRocks builds it for Neovim.
# shellcheck shell=sh

# shellcheck disable=SC2034
TAGS="5.4 5.1 luajit luajit-5.1 5.2 5.3 5.5"

lua_version() {
  case $1 in
    luajit*) echo 5.1 ;;
    *) echo "$1" ;;
  esac
}

lua_program() {
  case $1 in
    luajit*) command -v luajit; return ;;
  esac
  for name in "lua$1" "lua-$1" lua; do
    path=$(command -v "$name") || continue
    found=$("$path" -e 'io.write(jit and "LuaJIT" or _VERSION)' 2>&1 </dev/null)
    [ "$found" = "Lua $1" ] && echo "$path" && return
  done
  return 1
}

# For scripts that run on each of them.
any_lua() {
  for tag in $TAGS; do
    lua_program "$tag" && return
  done
  echo "there is no Lua" >&2
  return 1
}

# has_version DIR VERSION: are the headers in DIR those of PUC Lua VERSION?
has_version() {
  [ ! -f "$1/luajit.h" ] && printf '%s\n' '#include <lua.h>' \
    "#if LUA_VERSION_NUM != ${2%.*}0${2#*.}" '#error' '#endif' |
    "${CC:-cc}" -I"$1" -fsyntax-only -x c - 2>/dev/null
}

# The folder with the headers of a Lua.
lua_headers() {
  set -- "${1#luajit-}"
  prefix=$(lua_program "$1") && prefix=${prefix%/bin/*}/include
  for dir in ${prefix:+"$prefix"} /usr/include /usr/local/include; do
    for name in "lua$1" "lua-$1" "lua/$1" "$1-2.1"; do
      [ -f "$dir/$name/lua.h" ] && echo "$dir/$name" && return
    done
    if [ "$1" = luajit ]; then
      [ -f "$dir/luajit.h" ] && echo "$dir" && return
    else
      [ -f "$dir/lua.h" ] && has_version "$dir" "$1" && echo "$dir" && return
    fi
  done
  return 1
}

has_module() {
  program=$(lua_program "$1") && "$program" -e "require '$2'" >/dev/null 2>&1 </dev/null
}

# usable TAG [MODULE...]: can a module be built for this Lua and run with luv and
# these modules?
usable() {
  tag=$1
  shift
  lua_program "$tag" >/dev/null && lua_headers "$tag" >/dev/null || return 1
  for module in luv "$@"; do
    has_module "$tag" "$module" || return 1
  done
}

# debian_sources DIR PACKAGE...: Debian's sources of each package, as DIR/PACKAGE, by this machine's
# package sources. Lists and cache are temporary, so that it needs no root.
debian_sources() (
  to=$1
  shift
  apt=$(mktemp -d) || exit
  trap 'rm -rf "$apt"' EXIT
  mkdir -p "$apt/parts" "$apt/lists/partial" "$apt/cache/archives/partial" "$to"
  for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources
  do
    [ -f "$list" ] && sed -e 's/^[[:space:]]*deb[[:space:]]/deb-src /' \
      -e 's/^Types:.*/Types: deb-src/' "$list" >"$apt/parts/$(basename "$list")"
  done
  apt() {
    apt-get -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/parts" \
      -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" \
      -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 "$@" </dev/null
  }
  apt update # a list that is not needed may fail
  for package; do
    mkdir "$apt/$package" && (cd "$apt/$package" && apt source --download-only "$package" &&
      dpkg-source --no-check --extract ./*.dsc tree) &&
      rm -rf "${to:?}/$package" && mv "$apt/$package/tree" "$to/$package" || exit
  done
)
