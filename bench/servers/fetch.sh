#!/bin/sh
# Brings the servers that Debian does not install beside Postfix to DIR/exim, DIR/opensmtpd and
# DIR/haraka, links into the cache that tls/boringssl.sh has, too. Packages are unpacked, not
# installed: nothing of them is configured or started, and no mail server of this machine is
# touched. Called by make: bench/servers/fetch.sh DIR [exim] [opensmtpd] [haraka]
# (without names all of them).
#
# What cannot be had is told and left out; the benchmark does without.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
wanted=" ${*:-exim opensmtpd haraka} "
log=$dir.log
cache=${RINGMX_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/ringmx}/peers
mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] || cache=$dir/cache
work=$cache/work.$$
trap 'rm -rf "$work"' EXIT

say() { printf '  %-5s %s\n' PEER "$*"; }

candidate() {
    apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" {print $2}'
}

# take NAME TREE: what stands in $work/tree becomes TREE of the cache, and DIR/NAME leads there.
take() {
    if [ -d "$work/tree" ]; then
        mv -T "$work/tree" "$cache/$2" 2>/dev/null || [ -d "$cache/$2" ]
    fi
    ln -sfn "$cache/$2" "$dir/$1"
}

# What the programs below TREE lack, of the libraries that their package depends on, is installed.
libraries() {
    find "$1" -type f -perm -u+x -exec ldd {} + 2>/dev/null | grep -q 'not found' || return 0
    need=$(tr ',' '\n' <"$1/depends" | sed 's/[(|].*//; s/[[:space:]]//g' |
        grep -E '^(lib|zlib)' | sort -u)
    if [ "$(id -u)" != 0 ]; then
        echo "sudo apt-get install -y --no-install-recommends --no-remove" $need
        return 1
    fi
    say "libraries:" $need
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove \
        -o DPkg::Lock::Timeout=300 $need </dev/null >>"$log" 2>&1
}

# unpacked NAME PACKAGE...: Debian's packages, the program in the last of them.
unpacked() {
    name=$1
    shift
    for package in "$@"; do :; done
    version=$(candidate "$package")
    [ -n "$version" ] || { echo "apt knows no $package" >>"$log"; return 1; }
    tree=$name-$version-$(dpkg --print-architecture)
    if [ ! -d "$cache/$tree" ]; then
        say "unpacking $* $version"
        rm -rf "$work"
        mkdir -p "$work/tree"
        chmod 755 "$work/tree"
        (cd "$work" && apt-get -q download "$@") >>"$log" 2>&1 || return 1
        for file in "$work"/*.deb; do
            dpkg -x "$file" "$work/tree" || return 1
            dpkg -f "$file" Depends >>"$work/tree/depends" || return 1
        done
        mkdir -p "$work/tree/var/spool/smtpd" || return 1 # where OpenSMTPD's queue is bound to
        echo "Debian $version" >"$work/tree/version"
    fi
    take "$name" "$tree" && libraries "$cache/$tree"
}

# Plugins (its optional dependencies) and what needs a compiler are left out.
haraka() {
    command -v npm >/dev/null || { echo "npm is not there" >>"$log"; return 1; }
    version=$(sed -n 's/.*"Haraka": "\(.*\)".*/\1/p' "$here/haraka.json")
    tree=haraka-$version-$(sha256sum "$here/haraka.json" | cut -c1-12)
    if [ ! -d "$cache/$tree" ]; then
        say "npm install Haraka $version"
        rm -rf "$work"
        mkdir -p "$work/tree"
        cp "$here/haraka.json" "$work/tree/package.json"
        (cd "$work/tree" && npm install --omit=optional --omit=dev --ignore-scripts \
            --no-package-lock --no-audit --no-fund --loglevel=error) </dev/null >>"$log" 2>&1 ||
            return 1
        [ -f "$work/tree/node_modules/Haraka/bin/haraka" ] || return 1
        echo "$version" >"$work/tree/version"
    fi
    take haraka "$tree"
}

: >"$log"
missing=
if [ "$(id -u)" = 0 ] && [ -z "$(candidate exim4-base)" ]; then
    apt-get -q update </dev/null >>"$log" 2>&1 || true
fi
wants() { case "$wanted" in *" $1 "*) ;; *) return 1 ;; esac; }
if wants exim; then unpacked exim exim4-base exim4-daemon-light || missing="$missing exim"; fi
if wants opensmtpd; then unpacked opensmtpd opensmtpd || missing="$missing opensmtpd"; fi
if wants haraka; then haraka || missing="$missing haraka"; fi
if [ -n "$missing" ]; then
    echo "WARNING: left out, for they could not be had (see $log):$missing" >&2
fi
