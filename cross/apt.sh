# shellcheck shell=bash
# Debian packages by name, for cross/build and tests/run. Sourced, not run.
#
# Nothing is asked of apt when everything is there, so a second run needs neither root nor a network. Nothing is ever
# removed to make room: a conflict is an error that the reader of the log decides about.

# missing_packages NAME... prints the names that are not installed; NAME may carry an architecture (libc6:arm64).
missing_packages() {
    local name status
    for name in "$@"; do
        status=$(dpkg-query -W -f='${db:Status-Status}\n' "$name" 2>/dev/null || true)
        grep -qx installed <<<"$status" || echo "$name"
    done
}

# install_packages NAME... installs what is missing, or fails with the names that are still missing.
install_packages() {
    local missing
    command -v apt-get >/dev/null || fail "apt-get is not here: install by hand what these Debian packages hold: $*"
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -eq 0 ] && return 0
    echo "installing: ${missing[*]}"
    may_be_root || fail "missing packages and no root to install them, run: sudo apt-get install ${missing[*]}"
    as_root apt-get update -qq || echo "apt-get update failed, going on with the package lists that are here"
    without_starting_services apt_install "${missing[@]}" || true
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -eq 0 ] || fail "these packages could not be installed: ${missing[*]}"
}

# add_architecture ARCH lets packages of another architecture be installed beside our own.
add_architecture() {
    { dpkg --print-architecture; dpkg --print-foreign-architectures; } | grep -qx "$1" && return 0
    may_be_root || fail "packages of $1 are needed and there is no root, run: sudo dpkg --add-architecture $1"
    as_root dpkg --add-architecture "$1"
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends --no-remove \
        -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

# Packages that hold a server start it on installation. Ours are started by the tests, on ports of their own; this is
# Debian's way to say so, and a machine that has its own policy keeps it.
without_starting_services() {
    local policy=/usr/sbin/policy-rc.d result=0
    [ -e "$policy" ] && { "$@"; return; }
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    "$@" || result=$?
    as_root rm -f "$policy"
    return "$result"
}

may_be_root() {
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null || return 1
    if [ -t 0 ]; then sudo -v; else sudo -n true 2>/dev/null; fi
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

fail() {
    echo "error: $*" >&2
    exit 1
}
