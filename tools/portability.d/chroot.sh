# Debian for other processors, each in a folder of its own.
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
  # It stays registered when the mount is gone.
  # shellcheck disable=SC2016
  logged binfmt unshare --mount sh -c 'cd /proc/sys/fs/binfmt_misc
    [ -e register ] || mount -t binfmt_misc binfmt_misc . && cd "$PWD" && [ -e register ] || exit
    [ -e "$0" ] || { update-binfmts --import "$0" && update-binfmts --enable "$0"; }
    [ -e "$0" ]' "$emulator"
}

make_chroot() { # ARCH
  [ ! -e "$root/ready" ] || return 0
  need_program debootstrap debootstrap || return
  say "making a folder of Debian $SUITE for $1: $root"
  logged "debootstrap-$1" unshare --mount debootstrap --arch="$1" --variant=minbase "$SUITE" \
    "$root" "$(mirror)" || return
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  packages=$CHROOT_PACKAGES
  [ "$1" = s390x ] || packages="$packages luajit libluajit-5.1-dev" # there is none for it
  logged "packages-$1" chrooted apt-get update || return
  # shellcheck disable=SC2086
  logged "packages-$1" chrooted apt-get install -y --no-install-recommends $packages || return
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

platform_chroot() { # ARCH
  if [ "$(id -u)" != 0 ]; then
    fail "$1: a folder of Debian can only be made and entered as root"
    return
  fi
  root=$work/$1
  where="Debian 12, $1"
  every=
  if [ "$1" != i386 ] || [ "$(uname -m)" != x86_64 ]; then
    need_emulator "$1" || return
    where="$where, qemu $("$emulator-static" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')"
    every=6 # of the random scripts: it is thirty times slower
  fi
  make_chroot "$1" && copy_project && check_emulator "$1" || return
  set -- "$1" 5.4 5.1 luajit
  [ "$1" != s390x ] || set -- s390x 5.4 5.1
  arch=$1
  shift
  for tag in $(luas "$@"); do
    say "$where, Lua $tag"
    logged "build-$arch-$tag" chrooted make -C /src/project --no-print-directory ".rocks/$tag/built" ||
      continue
    # shellcheck disable=SC2016,SC2086
    specs "$work/log/$arch-$tag.log" chrooted env ${every:+MODEL_EVERY=$every} ${preload:+LD_PRELOAD=$preload} \
      sh -c 'cd /src/project && exec "$@"' sh \
      tools/with "$tag" lua $BUSTED
    record "$where" "$tag" "$(chrooted "$(lua_name "$tag")" -e "$NAMES")"
  done
}

lua_name() {
  case $1 in
    luajit*) echo luajit ;;
    *) echo "lua$1" ;;
  esac
}
