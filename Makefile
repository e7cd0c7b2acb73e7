# ringmx: the one Makefile. `make help` lists what it can do.
# Sources are found by folder, so a new module needs no line here. V=1 shows the commands.

VERSION := 0.1.0
BUILD   ?= release
PREFIX  ?= /usr/local
JOBS    ?= $(shell nproc)
V       ?= 0

MAKEFLAGS += --no-builtin-rules --no-print-directory
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(JOBS)
endif
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all programs unit-tests fuzzers run test deps deps-test deps-bench bench \
	bench-compare bench-relay bench-submission bench-pictures fuzz tidy format \
	check-neon install deb clean distclean help FORCE

# --- What Debian has to bring. --------------------------------------------------------------------

PACKAGES := gcc g++ libc6-dev make dpkg-dev liburing-dev libjemalloc-dev libconfuse-dev \
	libisal-dev libjansson-dev libc-ares-dev libidn2-dev libmicrohttpd-dev libhiredis-dev \
	libseccomp-dev libcrypt-dev libargon2-dev swaks libnet-ssleay-perl
PACKAGES_TEST := libcmocka-dev clang-14 libclang-rt-14-dev clang-format-14 python3 curl msmtp \
	postfix openssl gnutls-bin testssl.sh python3-cryptography haproxy dovecot-lmtpd \
	dovecot-imapd dovecot-pop3d nsd postsrsd python3-flufl.bounce \
	libmail-deliverystatus-bounceparser-perl libsisimai-perl \
	redis-server prometheus chromium chromium-driver systemd python3-yaml \
	python3-dkim libmail-dkim-perl opendkim hydra nmap
PACKAGES_DEB := debhelper fakeroot dpkg-dev
# Node.js may also come from elsewhere, and then brings npm along.
PACKAGES_BENCH = python3-matplotlib $(if $(shell command -v node),,nodejs) \
	$(if $(shell command -v npm),,npm)
ifdef BORINGSSL_SRC
PACKAGES += cmake ninja-build
endif

# --- Compiler and flags. --------------------------------------------------------------------------

ifeq ($(origin CC),default)
CC := gcc
endif
ARCH := $(shell uname -m)
OUT  := build/$(BUILD)
# Release programs stand in build/ itself, the other flavours in a folder of their own.
BIN  := $(if $(filter release,$(BUILD)),build,$(OUT))

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion \
	-Wno-sign-conversion -Wvla -Wundef -Wpointer-arith -Wcast-qual -Wwrite-strings \
	-Wimplicit-fallthrough -Werror
HARDENED := -O3 -fno-plt -fstack-protector-strong -D_FORTIFY_SOURCE=2
MALLOC   := -ljemalloc

ifeq ($(BUILD),release)
FLAVOUR := $(HARDENED)
else ifeq ($(BUILD),debug)
FLAVOUR := -Og -fno-omit-frame-pointer
else ifeq ($(BUILD),asan)
FLAVOUR := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
MALLOC  :=
else ifeq ($(BUILD),tsan)
FLAVOUR := -O1 -fno-omit-frame-pointer -fsanitize=thread
MALLOC  :=
else ifeq ($(BUILD),fuzz)
# Only for `make fuzz`: the same library, instrumented for libFuzzer.
CC      := clang-14
FLAVOUR := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all
MALLOC  :=
else
$(error BUILD=$(BUILD) is unknown: release, debug, asan or tsan)
endif

BORINGSSL := build/boringssl$(if $(BORINGSSL_SRC),-upstream)
BORINGSSL_LINK := $(BORINGSSL)/link
CFLAGS_ALL = -std=c17 -g -D_GNU_SOURCE -DRINGMX_VERSION='"$(VERSION)"' -I. \
	-isystem $(BORINGSSL)/include -pthread $(FLAVOUR) $(WARNINGS) $(CFLAGS)
LDFLAGS_ALL = -pthread $(FLAVOUR) -Wl,-z,relro,-z,now $(LDFLAGS)
# The file says how to link the BoringSSL that tls/boringssl.sh found or built.
LIBRARIES = -Wl,--as-needed -luring -lconfuse -lisal -lcares -lidn2 -lresolv -ljansson \
	-lmicrohttpd -lhiredis -lseccomp -lcrypt -largon2 @$(BORINGSSL_LINK) $(MALLOC)

# Code of one instruction set has a file of its own; scan.c chooses among them when it runs.
X86_64 := parser/scan_sse2.c parser/scan_avx2.c parser/scan_avx512.c
NEON   := parser/scan_neon.c
OTHER_ARCH := $(if $(filter x86_64,$(ARCH)),$(NEON),$(X86_64)) \
	$(if $(filter x86_64 aarch64,$(ARCH)),,$(NEON))
$(OUT)/parser/scan_avx2.o: CFLAGS_FILE := -mavx2 -mbmi -mbmi2
$(OUT)/parser/scan_avx512.o: CFLAGS_FILE := -mavx512f -mavx512bw -mavx512vl -mbmi -mbmi2
# The assembler includes the page, so the compiler does not tell of it.
$(OUT)/gateway/admin/page.o: gateway/admin/page.html

# --- What is built. -------------------------------------------------------------------------------

MAINS   := gateway/main.c $(wildcard gateway/admin/ringmxctl*.c)
SOURCES := $(filter-out $(MAINS) $(OTHER_ARCH),\
	$(wildcard gateway/*.c gateway/*/*.c parser/*.c tls/*.c))
objects = $(patsubst %.c,$(OUT)/%.o,$(1))
OBJECTS := $(call objects,$(SOURCES))
LIBRARY := $(OUT)/libringmx.a

# program = its main source and the parts that only it has; left out while the source is not there.
program_ringmx             := $(wildcard gateway/main.c)
program_ringmxctl          := $(wildcard gateway/admin/ringmxctl*.c)
program_ringmx-vectors     := $(wildcard tests/vectors.c tests/vectors_*.c)
program_ringmx-load        := $(wildcard bench/load/*.c bench/words.c)
program_ringmx-sink        := $(wildcard bench/sink.c bench/sink_*.c bench/words.c)
program_ringmx-null        := $(wildcard bench/null.c bench/null_*.c bench/words.c)
program_ringmx-bench-scan  := $(wildcard bench/scan.c bench/scan_*.c) bench/words.c \
	bench/load/corpus.c
program_ringmx-bench-spool := $(wildcard bench/spool.c bench/spool_*.c bench/words.c)
program_ringmx-bench-tls   := $(wildcard bench/tls.c bench/tls_*.c)
NAMES := ringmx ringmxctl ringmx-vectors ringmx-load ringmx-sink ringmx-null ringmx-bench-scan \
	ringmx-bench-spool ringmx-bench-tls
NAMES := $(foreach name,$(NAMES),$(if $(program_$(name)),$(name)))
PROGRAMS := $(NAMES:%=$(BIN)/%)
PROGRAM_OBJECTS = $(foreach name,$(NAMES),$(call objects,$(program_$(name))))
$(BIN)/ringmx-vectors: EXTRA := -ljansson
$(BIN)/ringmx-load: EXTRA := -lm -ljansson
$(BIN)/ringmx-bench-scan: EXTRA := -ljansson
$(addprefix $(BIN)/,ringmx-null ringmx-bench-spool): EXTRA := -lm

# Helpers shared by tests stand in tests/support/; an archive, so that each test has only those that
# it uses, and with them only what of ours they need: it may stand in for the rest.
SUPPORT    := $(OUT)/libsupport.a
SUPPORT_OBJECTS := $(call objects,$(wildcard tests/support/*.c))
UNIT_TESTS := $(patsubst %.c,$(OUT)/%,$(wildcard tests/unit/*_test.c))
# Of the load program all but main, for its unit tests; an archive, so that a test can stand in for
# a part.
LOAD_PARTS := $(OUT)/libload.a
LOAD_OBJECTS := $(call objects,$(filter-out bench/load/main.c,$(program_ringmx-load)))
$(patsubst %.c,$(OUT)/%,$(wildcard tests/unit/load_*_test.c)): PARTS = $(LOAD_PARTS)
FUZZERS    := $(patsubst %.c,$(OUT)/%,$(wildcard tests/fuzz/*.c))

all: programs
programs: $(PROGRAMS)
unit-tests: $(UNIT_TESTS)
fuzzers: $(FUZZERS)

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-5s %s\n' $(1) $(2)
endif

# Changed flags rebuild everything of that flavour.
$(OUT)/flags: FORCE
	@mkdir -p $(@D)
	@echo "$(CC) $(subst ",\",$(CFLAGS_ALL))" | cmp -s - $@ \
		|| echo "$(CC) $(subst ",\",$(CFLAGS_ALL))" > $@

$(OUT)/%.o: %.c $(OUT)/flags | $(BORINGSSL)/link
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_FILE) -MMD -MP -c -o $@ $<

# The list of members is part of the target, so that a deleted source leaves the archive, too.
$(OUT)/members: FORCE
	@mkdir -p $(@D)
	@echo "$(OBJECTS) $(LOAD_OBJECTS) $(SUPPORT_OBJECTS)" | cmp -s - $@ \
		|| echo "$(OBJECTS) $(LOAD_OBJECTS) $(SUPPORT_OBJECTS)" > $@

$(LIBRARY): $(OBJECTS)
$(LOAD_PARTS): $(LOAD_OBJECTS)
$(SUPPORT): $(SUPPORT_OBJECTS)
$(LIBRARY) $(LOAD_PARTS) $(SUPPORT): $(OUT)/members
	$(call say,AR,$@)
	@rm -f $@ # and append: two folders may have a file of the same name
	$(Q)$(AR) qcsD $@ $(filter %.o,$^)

.SECONDEXPANSION:
$(PROGRAMS): $(BIN)/%: $$(call objects,$$(program_$$*)) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBRARIES) $(EXTRA)

$(UNIT_TESTS): %: %.o $$(PARTS) $(SUPPORT) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBRARIES) -lcmocka $(if $(PARTS),-lm -ljansson)

$(FUZZERS): %: %.o $(SUPPORT) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBRARIES) -lcmocka

# Handshakes are fuzzed with BoringSSL's TLS in its fuzzer mode (docs/testing.md).
ifeq ($(BUILD)$(BORINGSSL_SRC),fuzz)
$(OUT)/tests/fuzz/tls: BORINGSSL_LINK := build/boringssl-fuzz/link
$(OUT)/tests/fuzz/tls: | build/boringssl-fuzz/link
endif

-include $(patsubst %.o,%.d,$(OBJECTS) $(PROGRAM_OBJECTS) $(SUPPORT_OBJECTS)) \
	$(UNIT_TESTS:%=%.d) $(FUZZERS:%=%.d)

# --- Dependencies. --------------------------------------------------------------------------------

# Installs what is missing of $(1). Without root: one line to paste, and stop. Postfix is only there
# to be a peer in tests: it gets no configuration, so it does not start, and pushes no other out.
POSTFIX := 'postfix postfix/main_mailer_type select No configuration'
define install_missing
	@need=$$(for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null \
		| grep -q '^install ok installed' || printf ' %s' $$p; done); \
	if [ -z "$$need" ]; then exit 0; fi; \
	case "$$need" in *postfix*) with_postfix=1;; esac; \
	if [ "$$(id -u)" != 0 ]; then \
		printf '%s' "$${with_postfix:+echo $(POSTFIX) | sudo debconf-set-selections; }"; \
		echo "sudo apt-get install -y --no-install-recommends --no-remove$$need"; \
		exit 1; fi; \
	echo "  APT  $$need"; export DEBIAN_FRONTEND=noninteractive; mkdir -p build; \
	if [ "$$with_postfix" ]; then echo $(POSTFIX) | debconf-set-selections; fi; \
	{ apt-get update; apt-get install -y --no-install-recommends --no-remove \
		-o DPkg::Lock::Timeout=300 $$need; } </dev/null >build/apt.log 2>&1 \
		|| { tail -n 20 build/apt.log; exit 1; }
endef

deps:
	$(call install_missing,$(PACKAGES))
	@$(MAKE) --silent $(BORINGSSL)/link

deps-test:
	$(call install_missing,$(PACKAGES) $(PACKAGES_TEST) $(PACKAGES_DEB))
	@$(MAKE) --silent $(BORINGSSL)/link
	@test -e build/peers/exim || bench/servers/fetch.sh build/peers exim

# Servers to test and compare with: those that Debian does not install beside Postfix are only
# unpacked.
deps-bench: deps-test
	$(call install_missing,$(PACKAGES_BENCH))
	@bench/servers/fetch.sh build/peers

$(BORINGSSL)/link: tls/boringssl.sh
	@JOBS="$(JOBS)" tls/boringssl.sh $(BORINGSSL) "$(BORINGSSL_SRC)"

build/boringssl-fuzz/link: tls/boringssl.sh | build/boringssl/link
	@JOBS="$(JOBS)" tls/boringssl.sh build/boringssl-fuzz '' build/boringssl

# --- What people type. ----------------------------------------------------------------------------

run: deps
	@$(MAKE) programs
	@mkdir -p var
	@test -e var/ringmx.conf || cp docs/local.conf var/ringmx.conf
	@echo
	@echo 'ringmx serves example.org on 127.0.0.1:2525, as var/ringmx.conf says. Try:'
	@echo '  swaks --server 127.0.0.1:2525 --from you@example.com --to alice@example.org'
	@echo 'and the mail appears in var/mail/example.org/alice/new/; with --tls behind it, swaks'
	@echo 'encrypts it on the way. Ctrl-C stops it.'
	@echo
	@exec $(BIN)/ringmx -c var/ringmx.conf

test: deps-test
	@/usr/bin/python3 tests/run.py $(ONLY)

fuzz: deps-test
	@/usr/bin/python3 tests/run.py fuzz

bench: deps-test
	@$(MAKE) programs
	@/usr/bin/python3 bench/bench.py

bench-compare: deps-bench
	@$(MAKE) programs
	@/usr/bin/python3 bench/bench.py --compare
	@/usr/bin/python3 bench/pictures.py

bench-relay: deps-test
	@$(MAKE) programs
	@/usr/bin/python3 bench/relay.py

bench-submission: deps-test
	@$(MAKE) programs
	@/usr/bin/python3 bench/submission.py

bench-pictures:
	$(call install_missing,$(PACKAGES_BENCH))
	@/usr/bin/python3 bench/pictures.py

tidy:
	@/usr/bin/python3 tests/tidy.py

format:
	@clang-format-14 -i $(filter-out build/%,$(wildcard *.h */*.[ch] */*/*.[ch]))

# No ARM machine is needed to see that the parser's NEON code compiles.
CROSS := aarch64-linux-gnu-gcc
check-neon:
	@if ! command -v $(CROSS) >/dev/null; then \
		echo 'no cross compiler: apt-get install gcc-aarch64-linux-gnu'; exit 0; fi; \
	mkdir -p build/neon; \
	for source in $(filter-out $(X86_64),$(wildcard parser/*.c)); do \
		$(CROSS) -std=c17 -D_GNU_SOURCE -I. -O3 $(WARNINGS) -c \
			-o build/neon/$$(basename $$source .c).o $$source || exit 1; done; \
	echo "  NEON  $$(ls build/neon | wc -l) files compiled"

UNITDIR    ?= $(PREFIX)/lib/systemd/system
INSTALLED  := $(filter-out ringmx ringmx-vectors ringmx-bench-%,$(NAMES))
DOC := $(DESTDIR)$(PREFIX)/share/doc/ringmx
CONF := $(DESTDIR)/etc/ringmx/ringmx.conf
PAGES := $(filter-out docs/man/ringmx-vectors.1,$(wildcard docs/man/*.[1-8]))
# The configuration is in /etc whatever PREFIX is, where the program looks for it; one that is there
# stays as it is.
install: programs
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/sbin $(BIN)/ringmx
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(INSTALLED:%=$(BIN)/%)
	install -D -m 644 -t $(DOC) README.md CHANGES.md LICENSE docs/*.md docs/example.conf
	@cp -r docs/deploy $(DOC)/ && rm -rf $(DOC)/deploy/debian
	@for page in $(PAGES); do \
		install -v -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man$${page##*.} $$page; done
	@mkdir -p $(DESTDIR)$(UNITDIR)
	@for unit in service socket; do \
		sed 's|/usr/sbin/|$(PREFIX)/sbin/|; s|/usr/bin/|$(PREFIX)/bin/|' \
			docs/deploy/systemd/ringmx.$$unit >$(DESTDIR)$(UNITDIR)/ringmx.$$unit; done
	@test -e $(CONF) || install -v -D -m 640 docs/deploy/ringmx.conf $(CONF)

# The package is built by debhelper in a copy of the sources, with the BoringSSL that is here.
DEB := build/deb/ringmx-$(VERSION)
deb: deps
	$(call install_missing,$(PACKAGES_DEB))
	@rm -rf build/deb && mkdir -p $(DEB)/build
	@cp -r gateway parser tls bench tests docs Makefile README.md CHANGES.md LICENSE $(DEB)/
	@cp -r docs/deploy/debian $(DEB)/debian
	@ln -s $(CURDIR)/$(BORINGSSL) $(DEB)/$(BORINGSSL)
	@cd $(DEB) && dpkg-buildpackage -us -uc -b >../build.log 2>&1 \
		|| { tail -n 30 ../build.log; exit 1; }
	@ls -l build/deb/*.deb

clean:
	rm -rf $(filter-out build/boringssl%,$(wildcard build/*))

distclean:
	rm -rf build

help:
	@echo 'make              build into build/ (BUILD=release|debug|asan|tsan, V=1: verbose)'
	@echo 'make run          install what is missing, build, serve 127.0.0.1:2525'
	@echo 'make test         every test; ends with "N passed, N failed" (ONLY="unit/asan fuzz")'
	@echo 'make deps         Debian packages and BoringSSL (BORINGSSL_SRC=DIR: upstream)'
	@echo 'make deps-test    those that only the tests want, too'
	@echo 'make deps-bench   and the servers that bench-compare measures, unpacked for it alone'
	@echo 'make bench        measure ringmx and its do-nothing yardsticks'
	@echo 'make bench-compare  and other servers; bench-pictures draws the pictures anew'
	@echo 'make bench-relay  measure delivery to a next hop'
	@echo 'make bench-submission  measure logging in, signing and hashing of passwords'
	@echo 'make fuzz         only the fuzzers (SECONDS_PER_FUZZER=6)'
	@echo 'make tidy format  check the house style; apply clang-format'
	@echo 'make check-neon   compile the parser for 64-bit ARM'
	@echo 'make install      into PREFIX=/usr/local, below DESTDIR'
	@echo 'make deb          a Debian package in build/deb/'
	@echo 'make clean        remove what was built; distclean: BoringSSL, too'
