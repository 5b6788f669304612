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
MAX_SIZE := 1048576

ifeq ($(V),1)
Q :=
else
Q := @
endif

.DELETE_ON_ERROR:
.PHONY: all help target build aarch64 demo test test-rungs test-six test-vm corpus compare load lint doc check-fuzz figures bpf \
	check-prebuilt check-static check-size clean

all: build

help:
	@echo 'make                  build $(BINARY)'
	@echo 'make demo             build it, crash a small program, print the report'
	@echo 'make test             all tests; root, or sudo, for those that load BPF'
	@echo 'make test-rungs       the live tests, captured in each way that older kernels have'
	@echo 'make test-six         the same without gimli (no default features)'
	@echo 'make test-vm          boot kernels in QEMU, crash programs there (VM=NAMES; KERNEL=FILE ARCH=)'
	@echo 'make corpus           crash the corpus in every build, compare chains (root)'
	@echo 'make compare          the same beside gdb, eu-stack, perf and bpftrace (root)'
	@echo 'make load             chains under load, in a huge library, in real programs (root)'
	@echo 'make lint             formatting and clippy, with and without gimli'
	@echo 'make doc              documentation of the code, without a warning'
	@echo 'make check-fuzz       the fuzz targets compile (needs a C++ compiler)'
	@echo 'make figures          measure it on this machine, as the README has it'
	@echo 'make bpf              compile bpf/ into prebuilt/ (needs $(CLANG), libbpf-dev)'
	@echo 'make check-prebuilt   prebuilt/ is what bpf/ gives (needs the same)'
	@echo 'make check-static     the binary is static (needs file, readelf)'
	@echo 'make check-size       the binary has at most $(MAX_SIZE) bytes'
	@echo 'make aarch64          the binary for 64-bit ARM, on any machine'

# The Rust target of a static binary, if it is missing.
target:
	$(Q)command -v $(CARGO) >/dev/null || { echo 'no cargo here: install Rust from https://rustup.rs' >&2; exit 1; }
	$(Q)test -d "$$(rustc --print sysroot)/lib/rustlib/$(TARGET)" || rustup target add $(TARGET)

build: target
	$(Q)$(CARGO) build --release --locked --target $(TARGET) --bin segfault_analyzer

aarch64:
	$(Q)$(MAKE) --no-print-directory build ARCH=aarch64

demo: build
	$(Q)CC='$(CC)' sh tests/demo/run.sh $(BINARY)

# Cargo gives every test program to tests/runner.sh, which makes those root that
# need it. The tests run with overflow checks; the live ones run what is shipped.
HOST   := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RUNNER := CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUNNER
TEST   := env $(RUNNER)='sh $(CURDIR)/tests/runner.sh' SUDO='$(SUDO)' $(CARGO) test --locked

test: build
	$(Q)SEGFAULT_ANALYZER='$(abspath $(BINARY))' $(TEST) $(TEST_FLAGS)

# The live tests once more, captured as older kernels have to.
test-rungs: build
	$(Q)SEGFAULT_ANALYZER='$(abspath $(BINARY))' SEGFAULT_ANALYZER_ARGS='--force-rung old' \
		$(TEST) --test live $(TEST_FLAGS)
	$(Q)SEGFAULT_ANALYZER='$(abspath $(BINARY))' SEGFAULT_ANALYZER_ARGS='--force-rung tracepoint' \
		$(TEST) --test live $(TEST_FLAGS) -- $(NO_SENDER)

# That tracepoint does not tell who has sent a signal.
NO_SENDER := --skip delivery_of_a_signal_sent --skip delivery_raised_again

SIX := $(OUT)/six

test-six: target
	$(Q)$(CARGO) build --release --locked --target $(TARGET) --no-default-features \
		--target-dir '$(SIX)' --bin segfault_analyzer
	$(Q)SEGFAULT_ANALYZER='$(abspath $(SIX))/$(TARGET)/release/segfault_analyzer' \
		$(TEST) --no-default-features --target-dir '$(SIX)' $(TEST_FLAGS)

# VM='bookworm-amd64 trixie-arm64' boots these only, KERNEL=image another one, of
# ARCH; VM_OPTIONS go to the tool. Needs qemu-system-x86, qemu-system-arm, python3,
# and for the other architecture's programs what tests/vm/programs.py names.
ifneq ($(KERNEL),)
VM_MACHINES := $(ARCH)
VM_ARGS     := --kernel '$(KERNEL)' --arch '$(ARCH)'
else
VM_MACHINES := x86_64 aarch64
VM_ARGS     := $(VM)
endif
TARGET_DIR  := $(or $(CARGO_TARGET_DIR),target)

test-vm:
	$(Q)set -e; for machine in $(VM_MACHINES); do \
		$(MAKE) --no-print-directory build ARCH=$$machine; \
	done
	$(Q)CC='$(CC)' CLANG='$(CLANG)' python3 tests/vm/run.py --binaries '$(TARGET_DIR)' \
		--options='$(VM_OPTIONS)' $(VM_ARGS)

CORPUS := $(if $(SUDO),sudo -E) env SEGFAULT_ANALYZER='$(abspath $(BINARY))' CORPUS_DIR='$(abspath $(TARGET_DIR))/corpus' \
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

lint:
	$(Q)$(CARGO) fmt --check
	$(Q)$(CARGO) clippy --locked --all-targets -- -D warnings
	$(Q)$(CARGO) clippy --locked --all-targets --no-default-features -- -D warnings

figures: build
	$(Q)$(SUDO) python3 tests/figures.py $(BINARY) $(wildcard $(OUT)/aarch64-unknown-linux-musl/release/segfault_analyzer)

doc:
	$(Q)RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps

# Targets for cargo-fuzz, which has a crate of its own; here only that they compile.
check-fuzz:
	$(Q)$(CARGO) check --locked --manifest-path tests/fuzz/Cargo.toml

# Paths must not get into the object, or it would differ from place to place; and
# at a place that is none clang finds no source lines to put into it, which are
# a quarter of its size.
BPF_FLAGS := -O2 -g -target bpf -Wall -Wextra -Wno-unused-parameter \
	-fdebug-prefix-map=$(CURDIR)=/segfault_analyzer -ffile-prefix-map=$(CURDIR)=/segfault_analyzer \
	-I/usr/include/$(shell uname -m)-linux-gnu

# Off with what no loader reads: DWARF, and relocations of type information.
SLIM := --strip-debug --remove-section=.rel.BTF --remove-section=.rel.BTF.ext \
	--remove-section=.llvm_addrsig

PREBUILT := capture.bpf.o capture_old.bpf.o

# Instructions that every kernel for which an object is meant knows; and in the one
# for old kernels nothing local is a function: labels alone.
CPU_capture := v3
CPU_capture_old := v2
SLIM_capture_old := --discard-all

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
	$(call compile_bpf,capture_old,$(OUT)/prebuilt/capture_old.bpf.o)
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

clean:
	$(Q)$(CARGO) clean
