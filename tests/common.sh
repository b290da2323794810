# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What ./check and ./demo share; they run in the source directory.

say() {
        printf '\n== %s\n' "$*"
}

as_root() {
        if [ "$(id -u)" -eq 0 ]; then
                "$@"
        elif command -v sudo >/dev/null; then
                sudo -- "$@"
        else
                echo "neither root nor sudo: cannot run: $*" >&2
                return 1
        fi
}

# install_packages [MORE…]: those of tests/packages.txt, as far as they are not there.
# shellcheck disable=SC2120 # the arguments are optional
install_packages() {
        local missing=() package
        command -v dpkg-query >/dev/null || return 0
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
        say "installing ${missing[*]}"
        as_root apt-get update -qq &&
                as_root env DEBIAN_FRONTEND=noninteractive \
                        apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# build_tree DIRECTORY TARGET LOG MESON-OPTION…
build_tree() {
        local dir=$1 target=$2 log=$3
        shift 3
        { [ -f "$dir/build.ninja" ] || meson setup "$dir" -Dtests=enabled "$@"; } >"$log" 2>&1 &&
                ninja -C "$dir" "$target" >>"$log" 2>&1
}
