#!/bin/sh
# Brings BoringSSL to DIR/include and DIR/lib, static and built for speed, and writes DIR/link: how
# to link it. Tried in this order: an upstream tree given as second argument (built by cmake), an
# earlier build in the cache, Debian's source package, and, with a warning, Debian's binary package,
# which is compiled for size. Called by make: tls/boringssl.sh DIR [UPSTREAM-TREE]. Nothing of the
# system's configuration is changed; only the last way installs a package.
#
# With a third argument, the DIR of an earlier call, only DIR/link and DIR/lib/libssl.a are made,
# for the fuzzer: BoringSSL's TLS in its fuzzer mode, by clang, over the cryptography of that DIR.
set -eu

dir=$1
upstream=${2:-}
plain=${3:-}
jobs=${JOBS:-$(nproc)}
package=android-platform-external-boringssl
binary=android-libboringssl-dev
work=$dir.work
log=$dir.log

say() { printf '  %-5s %s\n' SSL "$*"; }

# The cache makes a fresh clone cheap. Its key: Debian's version, the compiler, how it is built.
cache=${RINGMX_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/ringmx}
name=boringssl${plain:+-fuzz}
build=build_${plain:+fuzz_}source
recipe=$(sed -n "/^$build()/,/^}/p" "$0" | sha256sum | cut -c1-12)
key=$(uname -m)-$(gcc -dumpfullversion)-$recipe
version=$(apt-cache policy $binary 2>/dev/null | awk '$1 == "Candidate:" {print $2}')

# take_tree HEADERS CRYPTO SSL VERSION: puts the result in its place.
take_tree() {
    rm -rf "$dir"
    mkdir -p "$dir/lib"
    cp -rL "$1" "$dir/include"
    cp "$2" "$dir/lib/libcrypto.a"
    cp "$3" "$dir/lib/libssl.a"
    echo "$4" >"$dir/version"
    write_link "$dir/lib/libssl.a $dir/lib/libcrypto.a -lstdc++"
}

# The version is also seen by tls/crypto.c, so that --version can tell it.
write_link() {
    printf '#define RINGMX_BORINGSSL "%s"\n' "$(cat "$dir/version")" \
        >"$dir/include/boringssl_build.h"
    echo "$1" >"$dir/link"
}

write_fuzz_link() {
    echo "$dir/lib/libssl.a $plain/lib/libcrypto.a -Wl,--wrap=RAND_bytes -lstdc++" >"$dir/link"
}

from_upstream() {
    [ -f "$upstream/CMakeLists.txt" ] || { echo "$upstream is no BoringSSL tree" >&2; exit 1; }
    say "building $upstream (log: $log)"
    rm -rf "$work"
    if ! { cmake -GNinja -S "$upstream" -B "$work" -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DBUILD_TESTING=OFF \
        -DCMAKE_C_FLAGS='-O3 -fvisibility=hidden' -DCMAKE_CXX_FLAGS='-O3 -fvisibility=hidden' &&
        ninja -C "$work" -j "$jobs" crypto ssl; } >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        exit 1
    fi
    commit=$(git -C "$upstream" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
    take_tree "$upstream/include" "$(find "$work" -name libcrypto.a | head -n 1)" \
        "$(find "$work" -name libssl.a | head -n 1)" "upstream $commit, static"
    rm -rf "$work"
}

from_cache() {
    found=$(ls -d "$cache/$name-${version:-*}-$key" 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] && [ -f "$found/link" ] || return 1
    rm -rf "$dir"
    cp -r "$found" "$dir"
    if [ -n "$plain" ]; then
        write_fuzz_link
    else
        write_link "$dir/lib/libssl.a $dir/lib/libcrypto.a -lstdc++"
    fi
    say "taken from $found"
}

to_cache() {
    target=$cache/$name-$1-$key
    if mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] && [ ! -e "$target" ]; then
        rm -rf "$target.$$"
        cp -r "$dir" "$target.$$"
        mv -T "$target.$$" "$target" 2>/dev/null || rm -rf "$target.$$"
    fi
}

# source_lists DIR: the machine's own Debian archives, as deb-src, for one call of apt.
source_lists() {
    suites=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
    suites="$suites|stable|oldstable|testing|sid"
    suites="[[:space:]]($suites)(-updates|-security|/updates)?([[:space:]]|$)"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -f "$file" ] || awk -v suites="$suites" '
            /^[[:space:]]*deb(-src)?[[:space:]]/ && $0 ~ suites && /[[:space:]]main/ {
                sub(/^[[:space:]]*deb(-src)?/, "deb-src"); print }' "$file"
    done | sort -u >"$1/all.list"
    for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -f "$file" ] || grep -v '^#' "$file" | awk -v suites="$suites" '
            BEGIN { RS = ""; ORS = "\n\n" }
            $0 ~ suites && /Components:[^\n]*main/ && !/Enabled:[[:space:]]*no/ {
                sub(/Types:[^\n]*/, "Types: deb-src"); print }'
    done >"$1/all.sources"
}

fetch_source() {
    rm -rf "$work"
    mkdir -p "$work/apt/parts" "$work/apt/lists/partial"
    source_lists "$work/apt/parts"
    top=$(cd "$work" && pwd)
    cat >"$top/apt.conf" <<END
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$top/apt/parts";
Dir::State::Lists "$top/apt/lists";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "root";
Acquire::Languages "none";
END
    export APT_CONFIG="$top/apt.conf"
    (cd "$work" && { apt-get -q update || true; } && apt-get -q source $package) >>"$log" 2>&1
    result=$?
    unset APT_CONFIG
    return $result
}

# Debian's list of files, all speed (no OPENSSL_SMALL), with the assembly that is in the tarball.
build_source() {
    cat >ringmx.mk <<'END'
include debian/sources.mk
ASSEMBLY_x86_64 := $(linux_x86_64_sources)
ASSEMBLY_aarch64 := $(linux_aarch64_sources)
FLAGS := -O3 -fPIC -fvisibility=hidden -fno-strict-aliasing -fno-omit-frame-pointer -DNDEBUG \
	-DBORINGSSL_IMPLEMENTATION -Isrc/crypto -Isrc/include -pthread
FLAGS += $(if $(ASSEMBLY_$(ARCH)),,-DOPENSSL_NO_ASM)
CRYPTO := $(addsuffix .o,$(basename $(crypto_sources) $(ASSEMBLY_$(ARCH))))
SSL := $(addsuffix .o,$(basename $(ssl_sources)))
all: libcrypto.a libssl.a
libcrypto.a: $(CRYPTO)
	ar qcsD $@ $(sort $^)
libssl.a: $(SSL)
	ar qcsD $@ $^
%.o: %.c
	gcc -std=gnu11 $(FLAGS) -c -o $@ $<
%.o: %.S
	gcc $(FLAGS) -Wa,--noexecstack -c -o $@ $<
%.o: %.cc
	g++ -std=gnu++17 -fno-exceptions -fno-rtti $(FLAGS) -c -o $@ $<
END
    env -u MAKEFLAGS -u MAKELEVEL make -f ringmx.mk -j "$jobs" ARCH="$(uname -m)" all
}

# The handshake in BoringSSL's fuzzer mode: no encryption, no signature is wrong, the clock stands.
# libFuzzer is told which way the code takes. Random octets are a fixed sequence that the fuzzer
# begins anew; those that the cryptography takes for itself are not.
build_fuzz_source() {
    cat >random.c <<'END'
#include <stddef.h>
#include <stdint.h>
void RAND_reset_for_fuzzing(void);
int __wrap_RAND_bytes(uint8_t *out, size_t len);
static uint64_t state;
void RAND_reset_for_fuzzing(void)
{
    state = 0;
}
int __wrap_RAND_bytes(uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (uint8_t)(state >> 56);
    }
    return 1;
}
END
    cat >ringmx.mk <<'END'
include debian/sources.mk
FLAGS := -O1 -fno-omit-frame-pointer -fno-strict-aliasing -fsanitize=fuzzer-no-link -Isrc/crypto \
	-Isrc/include -pthread -DBORINGSSL_IMPLEMENTATION -DBORINGSSL_UNSAFE_FUZZER_MODE \
	-DBORINGSSL_UNSAFE_DETERMINISTIC_MODE
libssl.a: $(addsuffix .o,$(basename $(ssl_sources))) random.o
	ar qcsD $@ $^
random.o: random.c
	clang-14 -O1 -c -o $@ $<
%.o: %.cc
	clang++-14 -std=gnu++17 -fno-exceptions -fno-rtti $(FLAGS) -c -o $@ $<
END
    env -u MAKEFLAGS -u MAKELEVEL make -f ringmx.mk -j "$jobs" libssl.a
}

fuzz_from_debian_source() {
    : >"$log"
    [ -f "$plain/lib/libcrypto.a" ] || return 1
    say "fetching $package again, and building its TLS in fuzzer mode: about 30 s (log: $log)"
    fetch_source || return 1
    tree=$(cd "$work" && ls -d $package-*/ | head -n 1)
    (cd "$work/$tree" && build_fuzz_source) >>"$log" 2>&1 || return 1
    version=$(dpkg-parsechangelog -l "$work/$tree/debian/changelog" -S Version)
    rm -rf "$dir"
    mkdir -p "$dir/lib"
    cp "$work/$tree/libssl.a" "$dir/lib/"
    write_fuzz_link
    to_cache "$version"
    rm -rf "$work"
}

# Then handshakes are fuzzed as far as their first key.
fuzz_without() {
    echo "WARNING: no fuzzer mode of BoringSSL (see $log): TLS is fuzzed less deep" >&2
    rm -rf "$dir" "$work"
    mkdir -p "$dir"
    cp "$plain/link" "$dir/link"
}

from_debian_source() {
    : >"$log"
    say "fetching $package (Debian's source package, 29 MB)"
    fetch_source || return 1
    tree=$(cd "$work" && ls -d $package-*/ | head -n 1)
    say "building ${tree%/} static, for speed: about 40 s on two CPUs (log: $log)"
    (cd "$work/$tree" && build_source) >>"$log" 2>&1 || return 1
    version=$(dpkg-parsechangelog -l "$work/$tree/debian/changelog" -S Version)
    take_tree "$work/$tree/src/include" "$work/$tree/libcrypto.a" "$work/$tree/libssl.a" \
        "Debian $version, static"
    to_cache "$version"
    rm -rf "$work"
}

from_debian_binary() {
    multiarch=$(gcc -print-multiarch)
    cat >&2 <<END
WARNING: BoringSSL's source could not be had or built (see $log), so Debian's binary package is
WARNING: used. It is compiled for size: TLS handshakes cost about three times as much. To try again:
WARNING: rm -r $dir; make deps
END
    if ! dpkg-query -W -f '${Status}' $binary 2>/dev/null | grep -q '^install ok installed'; then
        if [ "$(id -u)" != 0 ]; then
            echo "sudo apt-get install -y $binary" >&2
            exit 1
        fi
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $binary </dev/null >>"$log" 2>&1
    fi
    rm -rf "$dir" "$work"
    mkdir -p "$dir/include"
    ln -s /usr/include/android/openssl "$dir/include/openssl"
    version=$(dpkg-query -W -f '${Version}' $binary)
    echo "Debian $version, shared, compiled for size" >"$dir/version"
    write_link "-L/usr/lib/$multiarch/android -Wl,-rpath,/usr/lib/$multiarch/android -lssl -lcrypto"
}

# Two makes at once: the second waits, and finds it done.
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9
if [ "$dir/link" -nt "$0" ]; then
    exit 0
elif [ -n "$plain" ]; then
    from_cache || fuzz_from_debian_source || fuzz_without
elif [ -n "$upstream" ]; then
    from_upstream
else
    from_cache || from_debian_source || from_debian_binary
fi
