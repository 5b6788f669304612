#!/bin/sh
# What `make install` installs, and whether systemd takes the unit in contrib/.
set -eu
binary=$1 unit=contrib/segfault_analyzer.service
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

fail() {
    echo "$*" >&2
    exit 1
}

"$MAKE" --no-print-directory install DESTDIR="$root" PREFIX=/usr
cmp "$binary" "$root/usr/bin/segfault_analyzer"
cmp docs/segfault_analyzer.1 "$root/usr/share/man/man1/segfault_analyzer.1"
test "$(stat -c %a "$root/usr/bin/segfault_analyzer")" = 755 || fail 'the binary has another mode'
files=$(find "$root" -type f | wc -l)
test "$files" = 2 || fail "$files files are installed"

# The tool knows each of the unit's options.
options=$(sed -n 's/^ExecStart=[^ ]* //p' "$unit")
# shellcheck disable=SC2086
"$binary" $options --help >/dev/null

# It looks for the program that the unit starts.
sed "s#/usr/local/bin#$root/usr/bin#" "$unit" >"$root/segfault_analyzer.service"
said=$(systemd-analyze verify --man=no "$root/segfault_analyzer.service" 2>&1) ||
    fail "systemd refuses the unit: $said"
test -z "$said" || fail "systemd says: $said"
# A score from 0 (confined) to 100 (as any service); above this it fails.
systemd-analyze security --no-pager --offline=true --threshold=30 "$unit" |
    tail -n 1
echo 'two files installed, the unit is valid'
