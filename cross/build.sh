#!/usr/bin/env bash
# Builds a static binary for one of the targets in cross/targets and prints its path.
#
#   cross/build.sh armv7-unknown-linux-musleabihf
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=cross/toolchain.sh
. cross/toolchain.sh

target=${1:-}
if [ -z "$target" ] || ! grep -qE "^$target " cross/targets; then
  echo "usage: cross/build.sh TARGET, one of:" >&2
  awk '!/^#/ { print "  " $1 }' cross/targets >&2
  exit 2
fi
find_toolchain "$target" std,panic_abort

# zig gives the C compiler, the C library and the linker; cargo-zigbuild joins it with cargo.
venv=${HOLDFAST_ZIG_VENV:-$PWD/target/zig}
if ! command -v cargo-zigbuild >/dev/null || ! python3 -c 'import ziglang' 2>/dev/null; then
  if [ ! -x "$venv/bin/cargo-zigbuild" ]; then
    python3 -m venv "$venv" || { install_or_name python3-venv python3-venv; python3 -m venv "$venv"; }
    "$venv/bin/pip" -q install -r cross/requirements.txt
  fi
  PATH=$venv/bin:$PATH
fi
[ -z "$cargo_path" ] || PATH=$cargo_path:$PATH
# In build-std mode the C start files come from zig, not from the toolchain's folder.
[ -z "$build_std" ] || export RUSTFLAGS="-Clink-self-contained=no"
export PATH
# Apart from the host's target folder: the standard library built there is used again.
export CARGO_TARGET_DIR=${HOLDFAST_CROSS_TARGET_DIR:-$PWD/target/cross}
# shellcheck disable=SC2086
cargo zigbuild --release --locked $build_std --target "$target" >&2
echo "$CARGO_TARGET_DIR/$target/release/holdfast"
