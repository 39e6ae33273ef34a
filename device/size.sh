#!/bin/sh
# Code, constants, helpers, RAM and worst stack of the receiver on a Cortex-M0. size.sh PREFIX BUILD-DIRECTORY; fails beyond the limits below.
set -eu
prefix=$1
build=$2
limit=4096
limit_ble=4864
limit_all=5120
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
# What the compiler brings for arithmetic that the processor has no instruction for, such as a division.
helpers() {
    found=$("${prefix}nm" -u "$@" | awk '$2 ~ /^__/ { print $2 }' | sort -u)
    echo "${found:-none}"
}

compile -fcallgraph-info=su -c -o "$build/rcp-m0.o" rcp.c
compile -DRCP_BLE=1 -c -o "$build/rcp-ble-m0.o" rcp.c
compile -DRCP_BLE=1 -DRCP_EVENTS=1 -DRCP_BLOCK_SIZES=1 -c -o "$build/rcp-all-m0.o" rcp.c
compile -c -o "$build/sha256-m0.o" rcp_sha256.c
cat >"$build/ram.c" <<'C'
#include "../rcp.h"
#include "../rcp_sha256.h"
extern char state[sizeof(rcp_t)], port[sizeof(rcp_port_t)], boot[sizeof(rcp_boot_t)], hash[sizeof(rcp_sha256_t)];
extern char frame256[RCP_FRAME_BUFFER(266)], frame1024[RCP_FRAME_BUFFER(1034)];
char state[sizeof(rcp_t)], port[sizeof(rcp_port_t)], boot[sizeof(rcp_boot_t)], hash[sizeof(rcp_sha256_t)];
char frame256[RCP_FRAME_BUFFER(266)], frame1024[RCP_FRAME_BUFFER(1034)];
C
compile -c -o "$build/ram.o" "$build/ram.c"

# What rcp_init() costs in the port's file: the same call with and without the checks, for a constant port and for one in RAM.
awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' README.md >"$build/example.c"
sed 's/^static const rcp_port_t port/rcp_port_t port/' "$build/example.c" >"$build/example-ram.c"
for port in example example-ram; do
    sed 's/rcp_init(&rcp, &port, &boot) != RCP_OK/(rcp_start(\&rcp, \&port, \&boot), 0)/' "$build/$port.c" >"$build/$port-bare.c"
    compile -I. -c -o "$build/$port.o" "$build/$port.c"
    compile -I. -c -o "$build/$port-bare.o" "$build/$port-bare.c"
done
checks=$(($(section "$build/example.o" .text) - $(section "$build/example-bare.o" .text)))
checks_ram=$(($(section "$build/example-ram.o" .text) - $(section "$build/example-ram-bare.o" .text)))

text=$(section "$build/rcp-m0.o" .text)
text_ble=$(section "$build/rcp-ble-m0.o" .text)
text_all=$(section "$build/rcp-all-m0.o" .text)
unit=8
for chunk in 256 1024; do
    ring=$((2 * chunk))
    eval "ram_$chunk=$(($(bytes_of state) + $(bytes_of boot) + $(bytes_of frame$chunk) + ring + unit))"
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
        if (f ~ /rcp_start/) start = f
    }
    /^edge:/ {
        match($0, /sourcename: "[^"]*"/); f = substr($0, RSTART + 13, RLENGTH - 14)
        match($0, /targetname: "[^"]*"/); g = substr($0, RSTART + 13, RLENGTH - 14)
        calls[f] = calls[f] " " g
    }
    END {
        calls["rcp_poll"] = calls["rcp_poll"] handlers
        print deepest("rcp_poll"), deepest(start), deepest("rcp_rx_byte")
    }' "$build/rcp-m0.ci")
# shellcheck disable=SC2086 # three numbers
set -- $stack

echo "code        $text bytes of $limit (rcp.c; -Os, Cortex-M0)"
echo "with BLE    $text_ble bytes of $limit_ble (the same with RCP_BLE)"
echo "everything  $text_all bytes of $limit_all (with RCP_BLE, RCP_EVENTS and RCP_BLOCK_SIZES)"
echo "constants   $(section "$build/rcp-m0.o" .rodata) bytes"
echo "checks      $checks bytes more where the port is a constant, $checks_ram where it is not (rcp_init(), in the port's file)"
echo "SHA-256     $(section "$build/sha256-m0.o" .text) bytes of code, $(section "$build/sha256-m0.o" .rodata) of constants, $(bytes_of hash) of RAM; not needed with hardware"
echo "helpers     $(helpers "$build/rcp-m0.o" "$build/rcp-all-m0.o" "$build/sha256-m0.o") (divisions and the like that the compiler brings)"
echo "RAM         $(bytes_of state) bytes of state; with rcp_boot_t, frame, write unit of $unit and a ring of two chunks:"
echo "            $ram_256 bytes for chunks of 256, $ram_1024 for chunks of 1024; $(bytes_of port) for the port, where it is not constant"
echo "stack       rcp_poll $1, rcp_init $2, rcp_rx_byte $3 bytes, without the callbacks and libc"
status=0
over() { # over BYTES LIMIT WHAT
    if [ "$1" -gt "$2" ]; then
        echo "the code $3is $(($1 - $2)) bytes too large" >&2
        status=1
    fi
}
over "$text" "$limit" ""
over "$text_ble" "$limit_ble" "with RCP_BLE "
over "$text_all" "$limit_all" "with everything "
exit $status
