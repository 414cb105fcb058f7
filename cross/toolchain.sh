# shellcheck shell=bash
# Sourced by the scripts beside it: finds a Rust toolchain that can build for a target, a linker, and other programs.

# find_toolchain TARGET LIBRARIES: sets
#   cargo_path   what to put in front of PATH ("" where the current toolchain serves)
#   build_std    the -Zbuild-std argument, or ""
# Three ways, in this order: the current toolchain has the target's library (rustup target add); the current one has the
# library's source (rustup component add rust-src); Debian's rustc-web with rust-web-src. As root the last is installed
# where none serves, and where there is no such package, the target is added to rustup's toolchain.
find_toolchain() {
  local target=$1 libraries=$2 sysroot
  cargo_path="" build_std=""
  sysroot=$(rustc --print sysroot 2>/dev/null || true)
  if [ -n "$sysroot" ] && compgen -G "$sysroot/lib/rustlib/$target/lib/libcore-*.rlib" >/dev/null; then
    return 0
  fi
  # Read by the script that sources this one.
  # shellcheck disable=SC2034
  build_std="-Zbuild-std=$libraries"
  if [ -n "$sysroot" ] && [ -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]; then
    export RUSTC_BOOTSTRAP=1
    return 0
  fi
  debian_source || install_packages rustc-web cargo-web rust-web-src || true
  if debian_source; then
    cargo_path=/usr/bin
    export RUSTC_BOOTSTRAP=1
    return 0
  fi
  if [ "$(id -u)" -eq 0 ] && command -v rustup >/dev/null && rustup target add "$target" >&2; then
    # shellcheck disable=SC2034
    build_std=""
    return 0
  fi
  cat >&2 <<END
no Rust toolchain here can build for $target. One of these makes one:
  rustup target add $target
  rustup component add rust-src                       (for every target)
  apt-get install rustc-web cargo-web rust-web-src    (Debian, for every target)
END
  return 2
}

# Whether Debian's rustc is here with the library's source where it looks for it.
debian_source() {
  local sysroot
  [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] || return 1
  sysroot=$(/usr/bin/rustc --print sysroot) && [ -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]
}

# find_linker TARGET, after find_toolchain: a microcontroller's images are linked by LLVM's linker. Toolchains of rustup
# bring it along as rust-lld; Debian's does not, and borrows rustup's or takes the package lld.
find_linker() {
  local own host variable
  [ -n "$cargo_path" ] || return 0
  own=$(rustc --print sysroot 2>/dev/null || true)
  host=$(rustc -vV 2>/dev/null | sed -n 's/^host: //p' || true)
  if [ -n "$own" ] && [ -x "$own/lib/rustlib/$host/bin/rust-lld" ]; then
    PATH=$PATH:$own/lib/rustlib/$host/bin
    return 0
  fi
  install_or_name ld.lld lld
  variable=$(echo "CARGO_TARGET_${1}_LINKER" | tr 'a-z-' 'A-Z_')
  export "$variable=ld.lld"
}

# find_zig FOLDER: puts zig and cargo-zigbuild on PATH, installed into FOLDER when they are not there. zig gives the C
# compiler, the C library and the linker; cargo-zigbuild joins it with cargo. Cargo builds everything anew when the
# linker's path changes, so FOLDER belongs with the built files.
find_zig() {
  local venv=${HOLDFAST_ZIG_VENV:-$1}
  zig_on_path && return 0
  if [ ! -x "$venv/bin/cargo-zigbuild" ]; then
    install_or_name python3-venv python3-venv || return 1
    python3 -m venv "$venv" || return 1
    "$venv/bin/pip" -q --disable-pip-version-check install -r cross/requirements.txt || return 1
  fi
  PATH=$venv/bin:$PATH
}

zig_on_path() {
  command -v cargo-zigbuild >/dev/null && { command -v zig >/dev/null || python3 -c 'import ziglang' 2>/dev/null; }
}

# install_or_name COMMAND PACKAGE [COMMAND PACKAGE]...: as root installs what is not here, all at once; otherwise says
# what is missing and fails.
install_or_name() {
  local packages=() named=()
  while [ $# -gt 0 ]; do
    is_here "$1" || { named+=("$1" "$2"); packages+=("$2"); }
    shift 2
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  install_packages "${packages[@]}" || true
  set -- "${named[@]}"
  named=() packages=()
  while [ $# -gt 0 ]; do
    is_here "$1" || { named+=("$1"); packages+=("$2"); }
    shift 2
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  echo "needed and missing: ${named[*]}; as root: apt-get install ${packages[*]}" >&2
  return 1
}

# is_here COMMAND: whether it is on PATH. python3-venv stands for a Python that can make environments: Debian's has the
# module venv without the package of that name, but not what venv puts into them.
is_here() {
  case $1 in
    python3-venv) python3 -c 'import venv, ensurepip' 2>/dev/null ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# install_packages PACKAGE...: fails when this is not root on Debian. Old package lists may still do when the network
# gives no new ones. What apt-get says is shown when it fails.
install_packages() {
  local said
  [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
  echo "installing $*" >&2
  apt-get -qq update >&2 || echo "apt-get update failed; going on with the package lists that are here" >&2
  said=$(DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" 2>&1 </dev/null) || {
    echo "$said" >&2
    return 1
  }
}
