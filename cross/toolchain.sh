# Sourced by the scripts beside it: finds a Rust toolchain that can build for $1 and sets
#   cargo_path   what to put in front of PATH ("" where the current toolchain serves)
#   build_std    the -Zbuild-std argument, or ""
# Three ways, in this order: the current toolchain has the target's library (rustup target add); the current one has the
# library's source (rustup component add rust-src); Debian's rustc-web with rust-web-src.
#
#   find_toolchain TARGET LIBRARIES
find_toolchain() {
  local target=$1 libraries=$2 sysroot
  cargo_path="" build_std=""
  sysroot=$(rustc --print sysroot 2>/dev/null || true)
  if [ -n "$sysroot" ] && compgen -G "$sysroot/lib/rustlib/$target/lib/libcore-*.rlib" >/dev/null; then
    return 0
  fi
  if [ -n "$sysroot" ] && [ -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]; then
    build_std="-Zbuild-std=$libraries"
    export RUSTC_BOOTSTRAP=1
    return 0
  fi
  if [ ! -f /usr/lib/rustlib/src/rust/library/Cargo.lock ] && ! debian_source >/dev/null; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
      echo "installing rustc-web, cargo-web and rust-web-src" >&2
      apt-get -qq update && apt-get -qq install -y --no-install-recommends rustc-web cargo-web rust-web-src >/dev/null || true
    fi
  fi
  if debian_source >/dev/null; then
    cargo_path=/usr/bin
    build_std="-Zbuild-std=$libraries"
    export RUSTC_BOOTSTRAP=1
    return 0
  fi
  cat >&2 <<EOF
no Rust toolchain here can build for $target. One of these makes one:
  rustup target add $target
  rustup component add rust-src
  apt-get install rustc-web cargo-web rust-web-src    (Debian)
EOF
  return 2
}

# Debian's library source, where its rustc looks for it.
debian_source() {
  [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] || return 1
  local sysroot
  sysroot=$(/usr/bin/rustc --print sysroot) || return 1
  [ -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ] && echo "$sysroot"
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

# install_or_name COMMAND PACKAGE: as root installs, otherwise says what is missing and fails.
install_or_name() {
  command -v "$1" >/dev/null && return 0
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing $2" >&2
    apt-get -qq update && apt-get -qq install -y --no-install-recommends "$2" >/dev/null
  fi
  command -v "$1" >/dev/null || { echo "$1 is needed and missing: apt-get install $2" >&2; return 1; }
}
