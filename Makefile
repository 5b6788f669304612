# segfault_analyzer: `make` builds the static binary, `make demo` shows it at
# work, `make test` tests it. `make help` lists the rest. V=1 shows commands.

ARCH     ?= $(shell uname -m)
TARGET   := $(ARCH)-unknown-linux-musl
# Where cargo puts what it builds, if not into target/.
OUT      := $(or $(CARGO_TARGET_DIR),target)
BINARY   := $(OUT)/$(TARGET)/release/segfault_analyzer
CARGO    ?= cargo
CC       ?= cc
# What rebuilds prebuilt/ byte for byte: Debian's clang 19.
CLANG    ?= clang-19
OBJCOPY  ?= llvm-objcopy-19
# Only where root is needed and not there; empty where there is no sudo either.
SUDO     := $(if $(filter 0,$(shell id -u)),,$(shell command -v sudo))
MAX_SIZE := 1310720
# What the binary may take in an archive, with the filter of xz for the architecture's calls.
MAX_XZ   := 573440
BCJ_x86_64 := --x86
BCJ_aarch64 := --arm64

ifeq ($(V),1)
Q :=
else
Q := @
endif

.DELETE_ON_ERROR:
.PHONY: all help target build aarch64 desk dist check-dist install check-install demo demo-core test test-methods test-six test-desk test-vm fetch-vm corpus compare load attack bench-desk bench-forms lint doc man check-man picture check-fuzz check-decoder check-arm-tables figures bpf \
	check-prebuilt check-static check-size clean

all: build

help:
	@echo 'make                  build $(BINARY)'
	@echo 'make desk             the same for a desk: reads all that debug information comes in'
	@echo 'make demo             build it, crash a small program, print the report'
	@echo 'make test             all tests; root, or sudo, for those that load BPF'
	@echo 'make test-methods       the live tests, with the capture methods of older kernels'
	@echo 'make test-six         the same without gimli (no default features)'
	@echo 'make test-desk        what a desk build alone has'
	@echo 'make test-vm          boot kernels in QEMU, crash programs there (VM=NAMES, KERNEL=FILE)'
	@echo 'make corpus           crash the corpus in every build, compare chains (root)'
	@echo 'make compare          the same beside gdb, eu-stack, perf and bpftrace (root)'
	@echo 'make load             chains under load, in a huge library, in real programs (root)'
	@echo 'make attack           crash programs that are made to be costly to report (root)'
	@echo 'make bench-desk       lines at a desk, beside addr2line and llvm-symbolizer'
	@echo 'make bench-forms      lines in each form of debug information, beside the same'
	@echo 'make lint             formatting and clippy, with and without gimli'
	@echo 'make doc              documentation of the code, without a warning'
	@echo 'make man              the man page, from docs/manual.md (needs python3)'
	@echo 'make check-man        the man page is what docs/manual.md gives'
	@echo 'make demo-core        crash it with --core, and open the core file in gdb'
	@echo 'make picture          the pictures of the README, from a report of make demo'
	@echo 'make check-fuzz       the fuzz targets compile (needs a C++ compiler)'
	@echo 'make check-decoder    instructions as disassemblers read them (minutes; needs llvm-19, binutils)'
	@echo 'make check-arm-tables  tables of 32-bit ARM as readelf reads them (downloads; needs llvm-19)'
	@echo 'make figures          measure it on this machine, as docs/performance.md has it'
	@echo 'make bpf              compile bpf/ into prebuilt/ (needs $(CLANG), libbpf-dev)'
	@echo 'make check-prebuilt   prebuilt/ is what bpf/ gives (needs the same)'
	@echo 'make check-static     the binary is static (needs file, readelf)'
	@echo 'make check-size       the binary has at most $(MAX_SIZE) bytes, $(MAX_XZ) as xz'
	@echo 'make check-dist       they are the same bytes when built elsewhere'
	@echo 'make install          the binary and the man page, below PREFIX=$(PREFIX) (DESTDIR=)'
	@echo 'make check-install    what is installed there; the unit in contrib/ (needs systemd)'
	@echo 'make aarch64          the binary for 64-bit ARM, on any machine'
	@echo 'make dist             the binaries for both, with checksums, in $(OUT)/dist'

# The Rust target of a static binary, if it is missing.
target:
	$(Q)command -v $(CARGO) >/dev/null || { echo 'no cargo here: install Rust from https://rustup.rs' >&2; exit 1; }
	$(Q)test -d "$$(rustc --print sysroot)/lib/rustlib/$(TARGET)" || rustup target add $(TARGET)

# Panics name source files: below names that are the same everywhere, so that the
# same commit gives the same bytes wherever it is built.
CARGO_HOME_DIR := $(or $(CARGO_HOME),$(HOME)/.cargo)
# LLVM copies small functions into their callers. For devices a fifth of its usual
# threshold for opt-level "s" is allowed; a desk has room for half of it and for that
# level, and is faster with both.
INLINED         = 10
NO_PATHS        = --config 'target.$(TARGET).rustflags = [ \
	"--remap-path-prefix=$(CARGO_HOME_DIR)=/cargo", "--remap-path-prefix=$(CURDIR)=/segfault_analyzer", \
	"-Cllvm-args=-inline-threshold=$(INLINED)"]'

build: target
	$(Q)$(CARGO) build --release --locked --target $(TARGET) $(NO_PATHS) --bin segfault_analyzer

aarch64:
	$(Q)$(MAKE) --no-print-directory build ARCH=aarch64

# For a desk, where size does not matter: the same source with every feature.
DESK := $(BINARY)-desk

desk: INLINED = 25
desk: target
	$(Q)$(CARGO) build --release --locked --target $(TARGET) $(NO_PATHS) --features desk \
		--config 'profile.release.opt-level = "s"' --target-dir '$(OUT)/desk' --bin segfault_analyzer
	$(Q)mkdir -p '$(dir $(DESK))'
	$(Q)cp '$(OUT)/desk/$(TARGET)/release/segfault_analyzer' '$(DESK)'

VERSION  := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
MACHINES := x86_64 aarch64
DIST     := $(OUT)/dist

# What is handed out: for each architecture a file for devices and one for a desk, and
# what they hash to.
dist:
	$(Q)rm -rf '$(DIST)' && mkdir -p '$(DIST)'
	$(Q)set -e; for machine in $(MACHINES); do \
		$(MAKE) --no-print-directory check-static check-size ARCH=$$machine; \
		cp '$(OUT)'/$$machine-unknown-linux-musl/release/segfault_analyzer \
			'$(DIST)'/segfault_analyzer-$(VERSION)-linux-$$machine; \
		$(MAKE) --no-print-directory desk ARCH=$$machine; \
		cp '$(OUT)'/$$machine-unknown-linux-musl/release/segfault_analyzer-desk \
			'$(DIST)'/segfault_analyzer-desk-$(VERSION)-linux-$$machine; \
	done
	$(Q)cd '$(DIST)' && sha256sum segfault_analyzer-* >SHA256SUMS && cat SHA256SUMS

PREFIX := /usr/local

# What was built before: root may have no Rust.
install:
	$(Q)test -x '$(BINARY)' || { echo 'nothing is built yet: make build' >&2; exit 1; }
	$(Q)install -D -m 755 '$(BINARY)' '$(DESTDIR)$(PREFIX)/bin/segfault_analyzer'
	$(Q)install -D -m 644 docs/segfault_analyzer.1 '$(DESTDIR)$(PREFIX)/share/man/man1/segfault_analyzer.1'

check-install: build
	$(Q)MAKE='$(MAKE)' sh tests/install.sh '$(BINARY)'

# Beside the kernel's own core, if it writes one into the current directory.
demo-core: build
	$(Q)CC='$(CC)' sh tests/demo/core.sh $(BINARY)

demo: build
	$(Q)CC='$(CC)' sh tests/demo/run.sh $(BINARY)

# Cargo gives every test program to tests/runner.sh, which makes those root that
# need it. The tests run with overflow checks; the live ones run what is shipped.
HOST   := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RUNNER := CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUNNER
TEST   := env $(RUNNER)='sh $(CURDIR)/tests/runner.sh' SUDO='$(SUDO)' $(CARGO) test --locked

test: build desk
	$(Q)SEGFAULT_ANALYZER='$(abspath $(BINARY))' SEGFAULT_ANALYZER_DESK='$(abspath $(DESK))' \
		$(TEST) $(TEST_FLAGS)

# No path of this machine is in them, and another directory gives the same bytes.
check-dist: dist
	$(Q)! grep -alF -e '$(CURDIR)' -e '$(CARGO_HOME_DIR)' '$(DIST)'/segfault_analyzer-*
	$(Q)set -e; elsewhere=$$(mktemp -d); trap 'rm -rf "$$elsewhere"' EXIT; \
		git ls-files -z | xargs -0 cp --parents -t "$$elsewhere"; \
		$(MAKE) --no-print-directory -C "$$elsewhere" build CARGO_TARGET_DIR="$$elsewhere/target"; \
		cmp "$$elsewhere/target/$(TARGET)/release/segfault_analyzer" \
			'$(DIST)'/segfault_analyzer-$(VERSION)-linux-$(ARCH)
	@echo 'another directory gives the same bytes'

# The live tests once more, captured as older kernels have to.
test-methods: build
	$(Q)SEGFAULT_ANALYZER='$(abspath $(BINARY))' SEGFAULT_ANALYZER_ARGS='--capture chain' \
		$(TEST) --test live $(TEST_FLAGS) -- $(NO_SHARES)
	$(Q)SEGFAULT_ANALYZER='$(abspath $(BINARY))' SEGFAULT_ANALYZER_ARGS='--capture tracepoint' \
		$(TEST) --test live $(TEST_FLAGS) -- $(NO_SHARES) $(NO_SENDER)
	$(Q)SEGFAULT_ANALYZER='$(abspath $(BINARY))' SEGFAULT_ANALYZER_ARGS='--capture perf' \
		$(TEST) --test live $(TEST_FLAGS) -- $(NO_SHARES) $(TOLD_LESS)

# The ring alone keeps a share of itself for each user.
NO_SHARES := --skip fairness_beside --skip fairness_of_executables

# That tracepoint does not tell who has sent a signal.
NO_SENDER := --skip delivery_of_a_signal_sent --skip delivery_raised_again \
	--skip causes_of_signals_that_nothing_raised

# Of these groups some test looks at what perf events alone do not tell; of stacks they
# copy one, and of files nothing, where eu-stack looks for their names.
TOLD_LESS := $(foreach group,books causes context deliveries desk examples folding json limits lines \
	measured names namespaces options raised refusals signatures statistics surroundings waiting,--skip $(group)::) \
	--skip one_stack_to_another --skip compat_handlers_on_an_alternate_stack \
	--skip core_for_eu_stack --skip core_reports_other_stacks

SIX := $(OUT)/six

test-six: target
	$(Q)$(CARGO) build --release --locked --target $(TARGET) --no-default-features \
		--target-dir '$(SIX)' --bin segfault_analyzer
	$(Q)SEGFAULT_ANALYZER='$(abspath $(SIX))/$(TARGET)/release/segfault_analyzer' \
		$(TEST) --no-default-features --target-dir '$(SIX)' $(TEST_FLAGS)

# What the features of a desk build add: the readers, its commands, and live tests of lines.
test-desk: desk
	$(Q)$(TEST) --features desk --target-dir '$(OUT)/desk' --lib $(TEST_FLAGS) -- symbols desk
	$(Q)$(TEST) --features desk --target-dir '$(OUT)/desk' --test desk --test debuginfod --test tail_calls $(TEST_FLAGS)
	$(Q)SEGFAULT_ANALYZER='$(abspath $(DESK))' \
		$(TEST) --features desk --target-dir '$(OUT)/desk' --test live $(TEST_FLAGS) lines

# VM='bookworm-amd64 trixie-arm64' boots these only, VM=extremes what CI does,
# VM_INTERPRETER=1 repeats each with the BPF JIT off, KERNEL=image another one; VM_OPTIONS go to the tool. Needs qemu-system-x86,
# qemu-system-arm, python3, and for the other architecture's programs what
# tests/vm/programs.py names.
RUN_VM = CC='$(CC)' CLANG='$(CLANG)' python3 tests/vm/run.py --binaries '$(OUT)' --options='$(VM_OPTIONS)' \
	--cache '$(OUT)/vm-kernels' --work '$(OUT)/vm'

test-vm:
ifneq ($(KERNEL),)
	$(Q)$(MAKE) --no-print-directory build ARCH=$$(python3 tests/vm/run.py --machine-of '$(KERNEL)')
	$(Q)$(RUN_VM) --kernel '$(KERNEL)'
else
	$(Q)set -e; for machine in $(MACHINES); do \
		$(MAKE) --no-print-directory build ARCH=$$machine; \
	done
	$(Q)$(RUN_VM) $(VM)
endif

# The kernels alone, ahead of time: to build one takes minutes.
fetch-vm:
	$(Q)$(RUN_VM) --fetch $(VM)

CORPUS := $(if $(SUDO),sudo -E) env SEGFAULT_ANALYZER='$(abspath $(BINARY))' CORPUS_DIR='$(abspath $(OUT))/corpus' \
	python3 tests/corpus

# Every crash program of the corpus in every build, against its known chain.
corpus: build
	$(Q)$(CORPUS)/check.py '$(CASES)'

# The same crashes as gdb, eu-stack, perf and bpftrace see them.
compare: build
	$(Q)$(CORPUS)/compare.py '$(CASES)'

# A thousand crashes a second, a library of more than 100 MB, programs of the system.
load: build
	$(Q)$(CORPUS)/load.py

# Files that are as slow to read as their formats permit, against the limits of a report.
attack: build
	$(Q)$(if $(SUDO),sudo -E) env SEGFAULT_ANALYZER='$(abspath $(BINARY))' CC='$(CC)' python3 tests/attack/run.py $(CASES)

# Lines at a desk beside addr2line and llvm-symbolizer (PROGRAMS='FILE...'), which it must
# not be slower than. Needs binutils, llvm-19, /usr/bin/time, and g++ or clang++-19.
bench-desk: build
	$(Q)python3 tests/bench/desk.py $(BINARY) $(PROGRAMS)

# Ten thousand addresses in each form.
bench-forms: desk
	$(Q)python3 tests/bench/forms.py '$(DESK)' $(FORMS)

lint:
	$(Q)$(CARGO) fmt --check
	$(Q)$(CARGO) clippy --locked --all-targets -- -D warnings
	$(Q)$(CARGO) clippy --locked --all-targets --no-default-features -- -D warnings
	$(Q)$(CARGO) clippy --locked --all-targets --features desk -- -D warnings

figures: build
	$(Q)$(SUDO) python3 tests/figures.py $(BINARY) $(wildcard $(OUT)/aarch64-unknown-linux-musl/release/segfault_analyzer)

doc:
	$(Q)RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps

# The man page is committed: whoever packages the tool needs no python3.
man:
	$(Q)python3 docs/man.py docs/manual.md >docs/segfault_analyzer.1

check-man:
	$(Q)python3 docs/man.py docs/manual.md | cmp - docs/segfault_analyzer.1
	@echo 'docs/segfault_analyzer.1 is what docs/manual.md gives'

picture: build
	$(Q)CC='$(CC)' sh tests/demo/run.sh $(BINARY) | python3 tests/demo/picture.py docs/images/report

# Targets for cargo-fuzz, which has a crate of its own; here only that they compile.
check-fuzz:
	$(Q)$(CARGO) check --locked --manifest-path tests/fuzz/Cargo.toml

# Debian's libraries, every form of every opcode, and what this processor does.
# Downloads libraries of armhf. Needs objdump, llvm-objdump-19, aarch64-linux-gnu-objdump,
# arm-linux-gnueabihf-objdump, and for the libraries of
# aarch64 libc6-arm64-cross, libstdc++6-arm64-cross, libasan8-arm64-cross.
check-decoder:
	$(Q)ARM_LIBRARIES="$$(python3 tests/arm_tables.py --fetch)" \
		$(CARGO) test --locked --test decoder -- --ignored --nocapture --test-threads 1

# Every entry of .ARM.exidx in libraries of Debian's armhf.
check-arm-tables:
	$(Q)python3 tests/arm_tables.py

# Paths must not get into the object, or it would differ from place to place; and
# at a place that is none clang finds no source lines to put into it, which are
# a quarter of its size.
BPF_FLAGS := -O2 -g -target bpf -Wall -Wextra -Wno-unused-parameter \
	-fdebug-prefix-map=$(CURDIR)=/segfault_analyzer -ffile-prefix-map=$(CURDIR)=/segfault_analyzer \
	-I/usr/include/$(shell uname -m)-linux-gnu

# Off with what no loader reads: DWARF, and relocations of type information.
SLIM := --strip-debug --remove-section=.rel.BTF --remove-section=.rel.BTF.ext \
	--remove-section=.llvm_addrsig

PREBUILT := capture.bpf.o capture_chain.bpf.o peek.bpf.o

# Instructions that every kernel for which an object is meant knows; and in the one
# for old kernels nothing local is a function: labels alone.
CPU_capture := v3
CPU_capture_chain := v2
CPU_peek := v2
SLIM_capture_chain := --discard-all

# Compiles bpf/$(1).bpf.c into $(2), and takes source lines out.
define compile_bpf
	$(Q)mkdir -p '$(dir $(2))'
	$(Q)$(CLANG) $(BPF_FLAGS) -mcpu=$(CPU_$(1)) -c bpf/$(1).bpf.c -o '$(2)'
	$(Q)$(OBJCOPY) $(SLIM) $(SLIM_$(1)) --dump-section .BTF.ext='$(2).ext' '$(2)'
	$(Q)python3 bpf/slim.py '$(2).ext' '$(2).ext'
	$(Q)$(OBJCOPY) --update-section .BTF.ext='$(2).ext' '$(2)'
	$(Q)rm -f '$(2).ext'
endef

bpf: $(PREBUILT:%=prebuilt/%)

prebuilt/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) bpf/slim.py
	$(call compile_bpf,$*,$@)

check-prebuilt:
	$(call compile_bpf,capture,$(OUT)/prebuilt/capture.bpf.o)
	$(call compile_bpf,capture_chain,$(OUT)/prebuilt/capture_chain.bpf.o)
	$(call compile_bpf,peek,$(OUT)/prebuilt/peek.bpf.o)
	$(Q)for object in $(PREBUILT); do cmp '$(OUT)/prebuilt/'$$object prebuilt/$$object || exit; done
	@echo 'prebuilt/ is what bpf/ gives'

# No interpreter and no shared library: nothing of the host is needed.
check-static: build
	$(Q)file $(BINARY) | grep -Eq 'static(ally|-pie) linked'
	$(Q)! readelf -lW $(BINARY) | grep -q INTERP
	$(Q)! readelf -dW $(BINARY) | grep -q NEEDED
	@echo '$(BINARY) is static'

check-size: build
	$(Q)size=$$(wc -c < $(BINARY)); echo "$(BINARY) has $$size bytes"; test $$size -le $(MAX_SIZE)
	$(Q)size=$$(xz $(BCJ_$(ARCH)) --lzma2=preset=9e -c $(BINARY) | wc -c); \
		echo "as xz it has $$size bytes"; test $$size -le $(MAX_XZ)

clean:
	$(Q)$(CARGO) clean
