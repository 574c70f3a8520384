# What the platforms of tools/portability share.
# shellcheck shell=sh disable=SC2034

work=${PORTABILITY_DIR:-.build/portability}
mkdir -p "$work/log"
work=$(cd "$work" && pwd)
status=0

say() { echo "== $*"; }

fail() {
  echo "FAILED: $*"
  status=1
}

# logged NAME COMMAND...: its output is shown only if it fails.
logged() {
  log=$work/log/$1.log
  shift
  "$@" >"$log" 2>&1 </dev/null && return
  tail -n 20 "$log"
  fail "$* (see $log)"
  return 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# need PACKAGE COMMAND...: Debian's PACKAGE is installed if the command fails.
need() {
  package=$1
  shift
  "$@" >/dev/null 2>&1 && return
  if ! command -v apt-get >/dev/null || ! as_root true 2>/dev/null; then
    fail "missing, by Debian's name: $package"
    return 1
  fi
  say "installing with apt-get: $package"
  logged apt as_root apt-get -qq update
  logged apt as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "$package"
}

need_program() { # PACKAGE PROGRAM
  need "$1" command -v "$2"
}

# luas TAG...: those of them that are wanted.
luas() {
  for tag; do
    case " ${PORTABILITY_LUAS:-$*} " in
      *" $tag "*) echo "$tag" ;;
    esac
  done
}

BUSTED="tools/busted.lua --output=plainTerminal"

# A program for any Lua, which names the Lua and the libuv that run it.
NAMES='local name = jit and jit.version or _VERSION
print(((name:gsub("%-beta.*", ""):gsub("^(LuaJIT %d+%.%d+).*", "%1"))
  .. "; " .. require "luv".version_string()))'

# specs LOG COMMAND...: a command that runs busted; sets $code to its exit status.
specs() {
  log=$1
  shift
  "$@" >"$log" 2>&1 </dev/null
  code=$?
}

# record PLATFORM TAG NAMES: notes how the specs went.
record() {
  for any in $TAGS; do
    lua=$(lua_program "$any") && break
  done
  "$lua" tools/portability.d/record.lua "$1" "$2" "$3" "$log" "$code" ||
    fail "$1, Lua $2: see $log"
}

platform_here() {
  logged setup tools/setup test || return
  . /etc/os-release
  # shellcheck disable=SC2046
  for tag in $(luas $(tools/luas busted)); do
    say "here, Lua $tag"
    logged "build-$tag" make --no-print-directory ".rocks/$tag/built" || continue
    # shellcheck disable=SC2086
    specs "$work/log/here-$tag.log" tools/with "$tag" lua $BUSTED
    record "${NAME%% *} ${VERSION_ID:-}, $(uname -m)" "$tag" "$(tools/with "$tag" lua -e "$NAMES")"
  done
}
