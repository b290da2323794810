# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What ./check and ./demo share; they run in the source directory.

say() {
        printf '\n== %s\n' "$*"
}

refuse() {
        echo "${0##*/}: $*" >&2
        return 1
}

as_root() {
        if [ "$(id -u)" -eq 0 ]; then
                "$@"
        else
                sudo -- "$@"
        fi
}

# Asked before anything else happens, so that nobody waits for a build that cannot be used.
may_become_root() {
        [ "$(id -u)" -ne 0 ] || return 0
        command -v sudo >/dev/null || { refuse "this needs root, and there is no sudo: run it as root"; return; }
        sudo -- true || refuse "this needs root, and sudo does not give it to $(id -un): run it as root"
}

# install_packages [MORE…]: those of tests/packages.txt, as far as they are not there.
# shellcheck disable=SC2120 # the arguments are optional
install_packages() {
        local missing=() package system log=build/check/packages.log
        system=$(. /etc/os-release && echo "$PRETTY_NAME") 2>/dev/null || system='no known system'
        if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
                refuse "this is $system, not Debian 12: run it on Debian 12, in a virtual machine for instance"
                return
        fi
        while read -r package; do
                case $package in '' | '#'*) continue ;; esac
                dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
                        missing+=("$package")
        done < <(cat tests/packages.txt; printf '%s\n' "$@")
        # An npm that did not come as a package serves as well.
        if command -v npm >/dev/null && command -v node >/dev/null; then
                mapfile -t missing < <(printf '%s\n' "${missing[@]}" | grep -vx -e npm -e nodejs -e '')
        fi
        [ "${#missing[@]}" -gt 0 ] || return 0
        may_become_root || return
        say "installing ${missing[*]}"
        mkdir -p build/check
        # An index that cannot be had need not matter; what it had does.
        # shellcheck disable=SC2024 # the log is the caller's
        as_root apt-get update -qq >"$log" 2>&1 || true
        # shellcheck disable=SC2024
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
                >>"$log" 2>&1 || {
                grep '^E: ' "$log" | head -n 5 >&2
                refuse "apt cannot install that on this machine ($system): see $log; with a network and" \
                       "the sources of Debian 12 it can"
        }
}

# build_tree DIRECTORY TARGET LOG MESON-OPTION…
build_tree() {
        local dir=$1 target=$2 log=$3
        shift 3
        { [ -f "$dir/build.ninja" ] || meson setup "$dir" -Dtests=enabled -Dtest_hooks=true "$@"; } >"$log" 2>&1 &&
                ninja -C "$dir" "$target" >>"$log" 2>&1
}
