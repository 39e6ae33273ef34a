#!/bin/sh
# Code, RAM and worst stack of the receiver on a Cortex-M0. size.sh PREFIX BUILD-DIRECTORY; fails beyond 4 KiB of code, or 4.75 KiB
# where it takes packets, too.
set -eu
prefix=$1
build=$2
limit=4096
limit_ble=4864
if ! command -v "${prefix}gcc" >/dev/null; then
    echo "${prefix}gcc is not installed; on Debian: apt install gcc-arm-none-eabi libnewlib-arm-none-eabi" >&2
    exit 1
fi

compile() {
    "${prefix}gcc" -std=c99 -Wall -Wextra -Wconversion -pedantic -Werror -Os -mcpu=cortex-m0 -mthumb "$@"
}
section() {
    "${prefix}size" -A "$1" | awk -v wanted="$2" 'index($1, wanted) == 1 { sum += $2 } END { print sum + 0 }'
}
bytes_of() {
    "${prefix}nm" -S -td "$build/ram.o" | awk -v name="$1" '$4 == name { print $2 + 0 }'
}

compile -fcallgraph-info=su -c -o "$build/rcp-m0.o" rcp.c
compile -DRCP_BLE=1 -c -o "$build/rcp-ble-m0.o" rcp.c
compile -c -o "$build/sha256-m0.o" rcp_sha256.c
cat >"$build/ram.c" <<'C'
#include "../rcp.h"
extern char state[sizeof(rcp_t)], port[sizeof(rcp_port_t)], frame256[RCP_FRAME_BUFFER(266)], frame1024[RCP_FRAME_BUFFER(1034)];
char state[sizeof(rcp_t)], port[sizeof(rcp_port_t)], frame256[RCP_FRAME_BUFFER(266)], frame1024[RCP_FRAME_BUFFER(1034)];
C
compile -c -o "$build/ram.o" "$build/ram.c"

text=$(section "$build/rcp-m0.o" .text)
text_ble=$(section "$build/rcp-ble-m0.o" .text)
constants=$(section "$build/rcp-m0.o" .rodata)
unit=8
for chunk in 256 1024; do
    ring=$((2 * chunk))
    eval "ram_$chunk=$(($(bytes_of state) + $(bytes_of frame$chunk) + ring + 1 + unit))"
done

# The longest way through the call graph. rcp_poll calls the handlers (on_*) through their table; callbacks are the porter's.
stack=$(awk '
    function deepest(f,    i, n, d, most) {
        if (f in known) return known[f]
        most = 0
        n = split(calls[f], callee, " ")
        for (i = 1; i <= n; i++) { split(calls[f], callee, " "); d = deepest(callee[i]); if (d > most) most = d }
        return known[f] = own[f] + most
    }
    /^node:/ {
        match($0, /title: "[^"]*"/); f = substr($0, RSTART + 8, RLENGTH - 9)
        if (match($0, /[0-9]+ bytes/)) own[f] = substr($0, RSTART, RLENGTH) + 0
        if (f ~ /on_[a-z_]*$/) handlers = handlers " " f
    }
    /^edge:/ {
        match($0, /sourcename: "[^"]*"/); f = substr($0, RSTART + 13, RLENGTH - 14)
        match($0, /targetname: "[^"]*"/); g = substr($0, RSTART + 13, RLENGTH - 14)
        calls[f] = calls[f] " " g
    }
    END {
        calls["rcp_poll"] = calls["rcp_poll"] handlers
        print deepest("rcp_poll"), deepest("rcp_start"), deepest("rcp_rx_byte")
    }' "$build/rcp-m0.ci")
# shellcheck disable=SC2086 # three numbers
set -- $stack

echo "code        $text bytes of $limit (rcp.c; -Os, Cortex-M0)"
echo "with BLE    $text_ble bytes of $limit_ble (the same with RCP_BLE)"
echo "constants   $constants bytes"
echo "SHA-256     $(section "$build/sha256-m0.o" .text) bytes of code, $(section "$build/sha256-m0.o" .rodata) of constants; not needed with hardware"
echo "RAM         $(bytes_of state) bytes of state; with frame, write unit of $unit and a ring of two chunks:"
echo "            $ram_256 bytes for chunks of 256, $ram_1024 for chunks of 1024; $(bytes_of port) for the port, where it is not constant"
echo "stack       rcp_poll $1, rcp_init $2, rcp_rx_byte $3 bytes, without the callbacks and libc"
if [ "$text" -gt "$limit" ]; then
    echo "the code is $((text - limit)) bytes too large" >&2
    exit 1
fi
if [ "$text_ble" -gt "$limit_ble" ]; then
    echo "the code with RCP_BLE is $((text_ble - limit_ble)) bytes too large" >&2
    exit 1
fi
