# Debian for other processors, and the next Debian, each in a folder of its own.
# shellcheck shell=sh disable=SC2154

SUITE=bookworm
CHROOT_PACKAGES="make gcc libc6-dev luarocks lua5.1 lua5.4 liblua5.1-0-dev liblua5.4-dev
  lua-luv lua-busted"

# Where this machine has its packages from.
mirror() {
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' |
    head -n 1
}

# chrooted COMMAND...: runs it in $root. What is mounted is gone afterwards, even if this
# script is killed.
chrooted() {
  # shellcheck disable=SC2016
  unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
    DEBIAN_FRONTEND=noninteractive "$@"
}

# The kernel runs the programs of this processor through qemu.
need_emulator() { # ARCH
  case $1 in
    armhf) emulator=qemu-arm ;;
    arm64) emulator=qemu-aarch64 ;;
    *) emulator=qemu-$1 ;;
  esac
  need_program binfmt-support update-binfmts && need_program qemu-user-static "$emulator-static" ||
    return
  registered=/proc/sys/fs/binfmt_misc
  if [ ! -e $registered/register ]; then
    say "mounting $registered"
    logged binfmt mount -t binfmt_misc binfmt_misc $registered || return
  fi
  [ -e "$registered/$emulator" ] && return
  logged binfmt update-binfmts --import "$emulator"
  logged binfmt update-binfmts --enable "$emulator"
  [ -e "$registered/$emulator" ] || { fail "the kernel does not take $emulator"; return 1; }
}

# Where the mirror is a snapshot, its lists may have expired. debootstrap knows no suite that is
# newer than itself.
make_chroot() { # NAME SUITE ARCH PACKAGE...
  name=$1 suite=$2 processor=$3
  shift 3
  [ ! -e "$root/ready" ] || return 0
  need_program debootstrap debootstrap || return
  say "making a folder of Debian $suite for $processor: $root"
  logged "debootstrap-$name" unshare --mount debootstrap --arch="$processor" --variant=minbase \
    "$suite" "$root" "$(mirror)" /usr/share/debootstrap/scripts/sid || return
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/snapshot"
  logged "packages-$name" chrooted apt-get update || return
  logged "packages-$name" chrooted apt-get install -y --no-install-recommends "$@" || return
  touch "$root/ready"
}

# The project as it is in the work tree, without what was built there.
copy_project() {
  rm -rf "$root/src/project"
  mkdir -p "$root/src/project"
  git ls-files -z --cached --others --exclude-standard |
    tar --create --file=- --ignore-failed-read --null --files-from=- |
    tar --extract --file=- --directory="$root/src/project"
}

# Sets $preload where qemu loses memory.
check_emulator() { # ARCH
  preload=
  logged "mremap-$1" chrooted gcc /src/project/test/qemu_mremap.c -o /src/qemu_mremap || return
  chrooted /src/qemu_mremap >/dev/null 2>&1 && return
  say "qemu loses memory in mremap: doing without it"
  preload=/src/no_mremap.so
  logged "mremap-$1" chrooted gcc -shared -fPIC /src/project/tools/portability.d/no_mremap.c \
    -o "$preload"
}

lua_name() {
  case $1 in
    luajit*) echo luajit ;;
    *) echo "lua$1" ;;
  esac
}

# chrooted_specs WHERE TAG VARIABLE...: the specs with these environment variables.
chrooted_specs() {
  described=$1
  tag=$2
  shift 2
  say "$described, Lua $tag"
  # shellcheck disable=SC2016,SC2086
  specs "$work/log/$(echo "$described-$tag" | tr -cs 'A-Za-z0-9.\n' -).log" chrooted env "$@" \
    sh -c 'cd /src/project && exec "$@"' sh tools/with "$tag" lua $BUSTED
  record "$described" "$tag" "$(chrooted "$(lua_name "$tag")" -e "$NAMES")"
}

# Where integers have 32 bits uv.now() wraps after a while.
chrooted_late_clock() { # WHERE TAG
  logged late-clock chrooted gcc -O1 -fPIC -shared /src/project/test/late_clock.c \
    -o /src/late_clock.so -ldl || return
  for ms in 2147483648 4294967296; do
    say "$1, Lua $2: timeouts while the clock passes $ms ms"
    # shellcheck disable=SC2016
    logged late-clock chrooted env LD_PRELOAD=/src/late_clock.so LATE_CLOCK=$ms \
      sh -c 'cd /src/project && exec "$@"' sh tools/with "$2" lua test/late_clock.lua
  done
}

platform_chroot() { # ARCH
  if [ "$(id -u)" != 0 ]; then
    fail "$1: a folder of Debian can only be made and entered as root"
    return
  fi
  arch=$1
  root=$work/$arch
  where="Debian 12, $arch"
  every=1 # of the random scripts
  if [ "$arch" != i386 ] || [ "$(uname -m)" != x86_64 ]; then
    need_emulator "$arch" || return
    where="$where, qemu $("$emulator-static" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')"
    every=6 # it is ten times slower
  fi
  packages=$CHROOT_PACKAGES
  [ "$arch" = s390x ] || packages="$packages luajit libluajit-5.1-dev" # there is none for it
  # shellcheck disable=SC2086
  make_chroot "$arch" "$SUITE" "$arch" $packages && copy_project && check_emulator "$arch" ||
    return
  set -- 5.4 5.1 luajit
  [ "$arch" != s390x ] || set -- 5.4 5.1
  for tag in $(luas "$@"); do
    logged "build-$arch-$tag" chrooted make -C /src/project --no-print-directory \
      ".rocks/$tag/built" || continue
    chrooted_specs "$where" "$tag" SEED_EVERY=$every LD_PRELOAD="$preload"
    case $arch-$tag in
      i386-5.1 | i386-luajit) chrooted_late_clock "$where" "$tag" ;;
    esac
  done
}

# The next Debian: newer versions of luv, Lua and Neovim, and Lua 5.5, for which luv is built there.
platform_forky() {
  if [ "$(id -u)" != 0 ]; then
    fail "forky: a folder of Debian can only be made and entered as root"
    return
  fi
  root=$work/forky
  # shellcheck disable=SC2086
  make_chroot forky forky "$(dpkg --print-architecture)" $CHROOT_PACKAGES luajit libluajit-5.1-dev \
    lua5.5 liblua5.5-dev dpkg-dev libuv1-dev git neovim redis-server && copy_project || return
  logged forky-luv chrooted sh -c 'cd /src/project && tools/luv 5.5'
  for tag in $(luas 5.5 5.4 5.1 luajit); do
    logged "build-forky-$tag" chrooted make -C /src/project --no-print-directory \
      ".rocks/$tag/built" || continue
    chrooted_specs "Debian forky, $(uname -m)" "$tag"
  done
  say "Debian forky, Neovim"
  logged forky-neovim chrooted make -C /src/project --no-print-directory test-nvim
}
