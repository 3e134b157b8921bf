# Start here: `make demo` shows vmdeck on this machine, `make test` runs every test. `make help` lists the rest.
SHELL := /bin/bash
CARGO ?= cargo
TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),target)
GUEST_DIR ?= $(TARGET_DIR)/guest
CLIENTS_DIR ?= $(TARGET_DIR)/clients
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 600
release = $(TARGET_DIR)/release/vmdeck
# Tests build the guest themselves where this is not used; the host's own stories need to be told.
export VMDECK_TEST_GUEST_DIR := $(abspath $(GUEST_DIR))
export VMDECK_TEST_GUEST := $(VMDECK_TEST_GUEST_DIR)/guest.qcow2
# With this set a client that is missing without a reason is a failure, not a skip.
export VMDECK_TEST_CLIENTS_DIR := $(abspath $(CLIENTS_DIR))

.DEFAULT_GOAL := help
.PHONY: help setup build guest debian clients demo demo-stop test test-full conformance check bench fuzz install uninstall clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

setup: ## install what is missing on this machine (QEMU, a C compiler, tools for the guest)
	@assets/setup.sh

build: ## the release binary
	@assets/setup.sh build
	$(CARGO) build --release --locked

guest: ## the guest image of demo and tests
	@assets/setup.sh guest run
	@assets/guest/build.sh $(GUEST_DIR)

debian: ## a full Debian 12 guest with cloud-init and agent, for test-full (minutes, 420 MB)
	@assets/setup.sh debian run
	@assets/guest/debian.sh $(GUEST_DIR)

clients: ## kubectl (Debian's and a current one), Helm, the Python client and an SSH server for the tests
	@assets/setup.sh clients
	@assets/clients.sh $(CLIENTS_DIR)

demo: setup build guest ## build, start a throw-away host with three machines, open the UI
	@assets/demo.sh start $(release) $(GUEST_DIR)/guest.qcow2

demo-stop: ## stop the demo and remove all of it
	@assets/demo.sh stop $(release)

test: setup guest clients ## every test but those of test-full, real guests and outside clients included
	$(CARGO) test --locked

test-full: setup guest debian clients ## `make test`, and the tests with a full Debian guest (minutes more)
	$(CARGO) test --locked
	$(CARGO) test --locked --test it debian:: -- --ignored --nocapture

conformance: ## K8SCHECK=PATH: a black-box checker's cases, over TLS and over the unix socket
	@test -n "$(K8SCHECK)" || { echo "conformance: say which checker, K8SCHECK=PATH" >&2; exit 2; }
	K8SCHECK=$(abspath $(K8SCHECK)) $(CARGO) test --locked --test it api::conformance -- --nocapture

check: ## formatting and lints
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

bench: build guest ## times beside bare QEMU's of the same run, memory, binary size
	VMDECK_BENCH_BINARY=$(abspath $(release)) $(CARGO) bench --locked --bench machine
	VMDECK_BENCH_BINARY=$(abspath $(release)) $(CARGO) bench --locked --bench api
	$(CARGO) test --locked --lib term::tests::history_memory -- --ignored --nocapture
	$(CARGO) test --locked --lib store::tests::history::compaction_is_not_felt -- --nocapture

fuzz: ## every fuzz target for FUZZ_SECONDS (600) each; needs nightly Rust and cargo-fuzz
	for target in request patch selector object; do \
	    mkdir -p $(TARGET_DIR)/fuzz-corpus/$$target && \
	    $(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz --target-dir $(TARGET_DIR)/fuzz -s none $$target \
	        $(TARGET_DIR)/fuzz-corpus/$$target tests/fixtures/fuzz/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=4096 || exit 1; \
	done

install: build ## binary, manual page and completions below DESTDIR/PREFIX
	install -D -m 755 $(release) $(DESTDIR)$(PREFIX)/bin/vmdeck
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	    $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(release) man | gzip -9n > $(DESTDIR)$(PREFIX)/share/man/man1/vmdeck.1.gz
	$(release) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/vmdeck
	$(release) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_vmdeck
	$(release) completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/vmdeck.fish

uninstall: ## remove what `make install` put there
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,bin/vmdeck share/man/man1/vmdeck.1.gz \
	    share/bash-completion/completions/vmdeck share/zsh/site-functions/_vmdeck \
	    share/fish/vendor_completions.d/vmdeck.fish)

clean: ## remove everything that was built
	$(CARGO) clean
