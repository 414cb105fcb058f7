#!/usr/bin/env bash
# Builds the leaf firmware and runs it on emulated boards: the store in static memory and a reset on two of them, the
# link alone on one that is too small for a store; each over a good line and over one that loses and changes bytes. Then
# a thousand scrapes of a hundred series of a real node_exporter go through 48 KiB. First it proves that an image which fails, panics or faults is seen to.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=cross/toolchain.sh
. ../toolchain.sh

# board        target                  image      rows  one byte in so many is bad
boards="
lm3s6965evb  thumbv7m-none-eabi      leaf       2500  8000
mps2-an386   thumbv7em-none-eabihf   leaf       2500  8000
microbit     thumbv6m-none-eabi      link-only  300   1500
"
# A recorded node_exporter runs through the store of these.
ring_boards="
lm3s6965evb  thumbv7m-none-eabi
mps2-an386   thumbv7em-none-eabihf
"
# A run takes seconds; this is for a machine with much else to do.
RUN_SECONDS_MAX=300

install_or_name qemu-system-arm qemu-system-arm
# Apart from the binaries for Linux: other crates, other profile.
export CARGO_TARGET_DIR=${HOLDFAST_CROSS_TARGET_DIR:-$PWD/../../target/cross}/bare-metal
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR=$(cd "$CARGO_TARGET_DIR" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# image BOARD TARGET NAME: builds the image and sets `image` to its path. An older image is removed first, so that it
# cannot stand in for a new one.
image() {
  image=$CARGO_TARGET_DIR/$2/release/$3
  rm -f "$image"
  (
    find_toolchain "$2" core
    find_linker "$2"
    [ -z "$cargo_path" ] || PATH=$cargo_path:$PATH
    # shellcheck disable=SC2086
    cargo build -q --release --locked $build_std --target "$2" -p holdfast-leaf --features "$1" --bin "$3"
  )
  [ -s "$image" ] || { echo "$image was not built" >&2; return 1; }
}

# emulator BOARD IMAGE SERIAL: sets `emulator` to the command line.
emulator() {
  # The commas are the emulator's.
  # shellcheck disable=SC2054
  emulator=(qemu-system-arm -M "$1" -display none -monitor none -serial "$3"
    -semihosting-config enable=on,target=native -kernel "$2")
}

# fails BOARD TARGET NAME WORDS: the image ends with status 1 and says WORDS.
fails() {
  local status=0
  image "$1" "$2" "$3"
  emulator "$1" "$image" "file:$work/serial"
  timeout "$RUN_SECONDS_MAX" "${emulator[@]}" </dev/null 2>"$work/errors" || status=$?
  if [ "$status" -ne 1 ] || ! grep -aq "$4" "$work/serial"; then
    echo "$1: $3 should end with status 1 and say '$4'; status $status, it said:" >&2
    tr -d '\0' <"$work/serial" >&2
    cat "$work/errors" >&2
    return 1
  fi
  echo "$1: $3 is seen to fail"
}

# The node's end of the line runs here, so it is built by this machine's own toolchain.
cargo build -q --release --locked -p holdfast-leaf-node
node=$CARGO_TARGET_DIR/release/holdfast-leaf-node

fails lm3s6965evb thumbv7m-none-eabi fails-check "failed: meant to fail"
fails mps2-an386 thumbv7em-none-eabihf fails-panic "meant to panic"
fails mps2-an386 thumbv7em-none-eabihf fails-hard "hard fault"

while read -r board target name rows one_in; do
  [ -n "$board" ] || continue
  image "$board" "$target" "$name"
  emulator "$board" "$image" stdio
  for line in "" "--bad-line $one_in"; do
    # shellcheck disable=SC2086
    timeout "$RUN_SECONDS_MAX" "$node" --rows "$rows" $line "${emulator[@]}" 2>"$work/errors" </dev/null |
      sed "s/^/$board${line:+, bad line}: /" | tee "$work/said" || {
      echo "$board: $name ${line:-on a good line} did not end well" >&2
      cat "$work/errors" >&2
      exit 1
    }
    grep -q "leaf: ok$" "$work/said" || { echo "$board: $name did not say that it is content" >&2; exit 1; }
  done
done <<<"$boards"
while read -r board target; do
  [ -n "$board" ] || continue
  image "$board" "$target" node-ring
  emulator "$board" "$image" "file:$work/serial"
  status=0
  timeout "$RUN_SECONDS_MAX" "${emulator[@]}" </dev/null 2>"$work/errors" || status=$?
  tr -d '\0' <"$work/serial" | sed "s/^/$board, node exporter: /"
  if [ "$status" -ne 0 ] || ! grep -aq "leaf: ok" "$work/serial"; then
    echo "$board: node-ring did not end well, status $status" >&2
    cat "$work/errors" >&2
    exit 1
  fi
done <<<"$ring_boards"
echo "bare metal: all boards did what they should"
