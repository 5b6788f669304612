# segfault_analyzer: `make` builds the static binary, `make demo` shows it at
# work, `make test` tests it. `make help` lists the rest. V=1 shows commands.

ARCH     ?= $(shell uname -m)
TARGET   := $(ARCH)-unknown-linux-musl
BINARY   := target/$(TARGET)/release/segfault_analyzer
CARGO    ?= cargo
CC       ?= cc
# What rebuilds prebuilt/ byte for byte: Debian's clang 19.
CLANG    ?= clang-19
OBJCOPY  ?= llvm-objcopy-19
# Only where root is needed and not there.
SUDO     := $(if $(filter 0,$(shell id -u)),,sudo)

ifeq ($(V),1)
Q :=
else
Q := @
endif

.DELETE_ON_ERROR:
.PHONY: all help target build demo test test-six test-vm lint bpf check-prebuilt check-static clean

all: build

help:
	@echo 'make              build $(BINARY)'
	@echo 'make demo         build it, crash a small program, print the report'
	@echo 'make test         all tests; needs root for the live ones'
	@echo 'make test-six     the same without gimli (no default features)'
	@echo 'make test-vm      boot kernels in QEMU, crash programs there (VM=NAMES; KERNEL=FILE ARCH=)'
	@echo 'make lint         formatting and clippy'
	@echo 'make bpf          compile bpf/ into prebuilt/ (needs $(CLANG), libbpf-dev)'
	@echo 'make check-prebuilt   prebuilt/ is what bpf/ gives'
	@echo 'make check-static     the binary is static'

# The Rust target of a static binary, if it is missing.
target:
	$(Q)test -d "$$(rustc --print sysroot)/lib/rustlib/$(TARGET)" || rustup target add $(TARGET)

build: target
	$(Q)$(CARGO) build --release --locked --target $(TARGET) --bin segfault_analyzer

demo: build
	$(Q)CC='$(CC)' SUDO='$(SUDO)' sh tests/demo/run.sh $(BINARY)

# Unit tests run with overflow checks; live tests run the binary that is shipped.
test: build
	$(Q)SEGFAULT_ANALYZER='$(CURDIR)/$(BINARY)' $(TEST_RUNNER) $(CARGO) test --locked $(TEST_FLAGS)

ifneq ($(SUDO),)
HOST        := $(shell rustc -vV | sed -n 's/^host: //p')
RUNNER_NAME := CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUNNER
TEST_RUNNER := env $(RUNNER_NAME)='sudo -E'
endif

test-six: target
	$(Q)$(CARGO) build --release --locked --target $(TARGET) --no-default-features \
		--target-dir target/six --bin segfault_analyzer
	$(Q)SEGFAULT_ANALYZER='$(CURDIR)/target/six/$(TARGET)/release/segfault_analyzer' \
		$(TEST_RUNNER) $(CARGO) test --locked --no-default-features --target-dir target/six $(TEST_FLAGS)

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

lint:
	$(Q)$(CARGO) fmt --check
	$(Q)$(CARGO) clippy --locked --all-targets -- -D warnings
	$(Q)$(CARGO) clippy --locked --all-targets --no-default-features -- -D warnings

# Paths must not get into the object, or it would differ from place to place.
BPF_FLAGS := -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Wno-unused-parameter \
	-fdebug-prefix-map=$(CURDIR)=. -ffile-prefix-map=$(CURDIR)=. \
	-I/usr/include/$(shell uname -m)-linux-gnu

# Off with what no loader reads: DWARF, and relocations of type information.
SLIM := --strip-debug --remove-section=.rel.BTF --remove-section=.rel.BTF.ext \
	--remove-section=.llvm_addrsig

bpf: prebuilt/capture.bpf.o

prebuilt/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h)
	$(Q)mkdir -p prebuilt
	$(Q)$(CLANG) $(BPF_FLAGS) -c $< -o $@
	$(Q)$(OBJCOPY) $(SLIM) $@

check-prebuilt:
	$(Q)mkdir -p target/prebuilt
	$(Q)$(CLANG) $(BPF_FLAGS) -c bpf/capture.bpf.c -o target/prebuilt/capture.bpf.o
	$(Q)$(OBJCOPY) $(SLIM) target/prebuilt/capture.bpf.o
	$(Q)cmp target/prebuilt/capture.bpf.o prebuilt/capture.bpf.o
	@echo 'prebuilt/ is what bpf/ gives'

# No interpreter and no shared library: nothing of the host is needed.
check-static: build
	$(Q)file $(BINARY) | grep -Eq 'static(ally|-pie) linked'
	$(Q)! readelf -d $(BINARY) 2>/dev/null | grep -q NEEDED
	@echo '$(BINARY) is static'

clean:
	$(Q)$(CARGO) clean
