#!/bin/sh
# cppcheck over the receiver with all options: no finding but MISRA's, and of those only of the rules in misra.txt. lint.sh BUILD-DIRECTORY
set -u
build=$1
if ! command -v cppcheck >/dev/null; then
    echo "cppcheck is not installed; on Debian: apt install cppcheck" >&2
    exit 1
fi
cppcheck --quiet --inline-suppr --std=c99 --platform=unix32 --enable=warning,style,portability,performance --addon=misra \
    -DUINT_MAX=0xFFFFFFFFu -DCHAR_BIT=8 -DRCP_BLE=1 -DRCP_EVENTS=1 -DRCP_BLOCK_SIZES=1 \
    --suppress=missingIncludeSystem --suppress=unusedFunction --suppress=unusedStructMember \
    --template='{file}:{line}: {id}: {message}' rcp.c rcp_sha256.c >"$build/lint.log" 2>&1
sed -n 's/^\([0-9.]*\) .*/misra-c2012-\1:/p' lint/misra.txt >"$build/lint.allowed"
found=$(grep -E '^[^ ]+:[0-9]+: ' "$build/lint.log" | grep -v -F -f "$build/lint.allowed")
if [ -n "$found" ]; then
    echo "$found" >&2
    exit 1
fi
echo "cppcheck: nothing but $(grep -c 'misra-c2012' "$build/lint.log") places with the deviations of lint/misra.txt"
