#!/usr/bin/env bash
# Builds for one target and runs the binary, emulated where this machine cannot run it: it starts, scrapes itself,
# is killed and goes on with its memory, is stopped and starts again without it, and answers queries about what came
# before each time.
#
#   cross/test.sh armv7-unknown-linux-musleabihf
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=cross/toolchain.sh
. cross/toolchain.sh

target=${1:?usage: cross/test.sh TARGET (see cross/targets)}
read -r _ emulator cpu machine < <(grep -E "^$target " cross/targets) || { echo "$target is not in cross/targets" >&2; exit 2; }
programs=(file file curl curl)
[ "$emulator" = native ] || programs+=("$emulator" qemu-user-static)
install_or_name "${programs[@]}"
binary=$(cross/build.sh "$target")

kind=$(file -b "$binary")
case $kind in *"statically linked"*|*"static-pie linked"*) ;; *) echo "$binary is not static: $kind" >&2; exit 1 ;; esac
case $kind in *"$machine"*) ;; *) echo "$binary is not for $machine: $kind" >&2; exit 1 ;; esac
bytes=$(stat -c %s "$binary")
echo "$target: $bytes bytes, static"
[ "$bytes" -lt 6000000 ] || { echo "$binary has $bytes bytes; at most 6000000 are allowed" >&2; exit 1; }

run=("$binary")
[ "$emulator" = native ] || run=("$emulator" -cpu "$cpu" "$binary")
folder=$(mktemp -d)
hot=$(mktemp -d -p /dev/shm)
pid=""
cleanup() {
  [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
  rm -rf "$folder" "$hot"
}
trap cleanup EXIT
# One that nobody listens on.
port=$((20000 + RANDOM % 10000))
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((20000 + RANDOM % 10000)); done
url=http://127.0.0.1:$port
cat >"$folder/prometheus.yml" <<EOF
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: self
    static_configs: [{targets: ["127.0.0.1:$port"]}]
EOF
start() {
  "${run[@]}" --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" --storage.hot-path="$hot" \
    --web.listen-address=127.0.0.1:$port --storage.flush-interval=1s >>"$folder/log" 2>&1 &
  pid=$!
}
# ask EXPRESSION SECONDS: the value, once it is not empty.
ask() {
  local deadline=$((SECONDS + $2)) value
  while [ $SECONDS -lt $deadline ] && kill -0 "$pid" 2>/dev/null; do
    value=$(curl -sfG "$url/api/v1/query" --data-urlencode "query=$1" 2>/dev/null | sed -nE 's/.*"value":\[[^,]*,"([^"]*)"\].*/\1/p' || true)
    [ -n "$value" ] && { echo "$value"; return 0; }
    sleep 0.5
  done
  echo "no answer to $1 within $2 s, or the program ended; the log says:" >&2
  tail -n 20 "$folder/log" >&2
  return 1
}
# count_before INSTANT: samples of up that were stored before it.
count_before() {
  ask "count_over_time(up{job=\"self\"}[5m] @ $1)" 60
}
# at_least NUMBER OF WHEN
at_least() {
  [ "$1" -ge "$2" ] || { echo "$1 of at least $2 samples are there $3" >&2; tail -n 20 "$folder/log" >&2; exit 1; }
}

start
[ "$(ask 'up{job="self"} == 1' 60)" = 1 ]
# Enough scrapes to have been flushed.
count=$(ask 'count_over_time(up{job="self"}[5m]) >= 8' 90)

# Killed: the next process goes on with its memory.
kill -9 "$pid"
{ wait "$pid" || true; } 2>/dev/null
sleep 2
before=$(($(date +%s) - 1))
start
attached=$(count_before "$before")
at_least "$attached" "$count" "after the process was killed"
grep -q "attached to the store" "$folder/log" || { echo "did not attach to the slab" >&2; cat "$folder/log" >&2; exit 1; }

# Stopped, and its memory gone: everything comes from flash.
kill -TERM "$pid"
wait "$pid" || { echo "did not stop cleanly" >&2; tail -n 20 "$folder/log" >&2; exit 1; }
rm -rf "${hot:?}"/*
sleep 2
start
found=$(count_before "$before")
at_least "$found" "$attached" "after a restart without its memory"
kill -TERM "$pid"
wait "$pid" || true
pid=""
echo "$target: runs, attaches, spills, restarts, and still has its $found samples"
