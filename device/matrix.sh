#!/bin/sh
# Compiles the receiver in every language, with every option, for every processor it is meant for, by gcc and by clang; any warning fails.
# matrix.sh BUILD-DIRECTORY. A compiler that is missing is named and fails, too: nothing is left out in silence.
#
# lx106 (ESP8266) has no clang in Debian: gcc alone. x86 of 32 and 64 bits is compiled on x86 machines, others compile for themselves. Debian's bare riscv and xtensa compilers have no libc: build/include stands in for it.
set -u
build=$1
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wcast-align -Wundef -Werror"
failed=0
compiled=0

mkdir -p "$build/include" "$build/matrix"
cat >"$build/include/string.h" <<'C'
#ifndef STRING_H
#define STRING_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
int memcmp(const void *a, const void *b, size_t size);
void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
size_t strlen(const char *text);
#ifdef __cplusplus
}
#endif
#endif
C

compile() { # compile NAME OPTIONS... FILE
    name=$1
    shift
    compiled=$((compiled + 1))
    # shellcheck disable=SC2086 # a list of options
    if ! "$@" $warnings -Os -c -o "$build/matrix/out.o" >"$build/matrix/log" 2>&1; then
        echo "$name: $*" >&2
        head -20 "$build/matrix/log" >&2
        failed=$((failed + 1))
    fi
}
everything() { # everything NAME COMPILER OPTIONS...
    name=$1
    if ! command -v "$2" >/dev/null; then
        echo "$name: $2 is not installed; .ci/packages says what Debian calls it" >&2
        failed=$((failed + 1))
        return
    fi
    shift
    before=$failed
    for language in c99 c11 c++17; do
        kind=c
        [ $language = c++17 ] && kind=c++
        for options in "" "-DRCP_BLE=1" "-DRCP_EVENTS=1 -DRCP_BLOCK_SIZES=1 -DRCP_ERASED=0x00u" "-DRCP_BLE=1 -DRCP_EVENTS=1 -DRCP_BLOCK_SIZES=1"; do
            for file in rcp.c rcp_sha256.c; do
                # shellcheck disable=SC2086 # a list of options
                compile "$name" "$@" -x $kind -std=$language $options $file
            done
        done
    done
    [ $failed = $before ] && echo "$name: C99, C11 and C++17 without a warning, rcp.c has $(size_of "$@") bytes"
}
size_of() {
    "$@" -x c -std=c99 -Os -c -o "$build/matrix/size.o" rcp.c && size -A "$build/matrix/size.o" 2>/dev/null | awk '$1 ~ /^\.(text|literal)/ { sum += $2 } END { print sum + 0 }'
}

bare="-ffreestanding -fno-builtin -isystem $build/include"
for chip in m0:-mcpu=cortex-m0 m4:-mcpu=cortex-m4 m33:-mcpu=cortex-m33; do
    everything "gcc ${chip%%:*}" arm-none-eabi-gcc "${chip#*:}" -mthumb
    # shellcheck disable=SC2086 # a list of options
    everything "clang ${chip%%:*}" clang --target=arm-none-eabi "${chip#*:}" -mthumb $bare
done
# shellcheck disable=SC2086 # lists of options
{
    everything "gcc rv32imc" riscv64-unknown-elf-gcc -march=rv32imc -mabi=ilp32 $bare
    everything "clang rv32imc" clang --target=riscv32-none-elf -march=rv32imc -mabi=ilp32 $bare
    everything "gcc lx106" xtensa-lx106-elf-gcc -mlongcalls $bare
}
if [ "$(uname -m)" = x86_64 ]; then
    for bits in 32 64; do
        everything "gcc x86 $bits" gcc -m$bits
        everything "clang x86 $bits" clang -m$bits
    done
else
    everything "gcc $(uname -m)" gcc
    everything "clang $(uname -m)" clang
fi
echo "$compiled compilations, $failed failures"
[ $failed = 0 ]
