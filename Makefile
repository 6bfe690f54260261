# Everything a person types. Each target says what it needs and installs it from the distribution.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

CARGO ?= cargo
# Labs find binaries there, wherever the user's own configuration would put them.
export CARGO_TARGET_DIR := $(CURDIR)/target
LAB ?= containerlab/two-rack
# The plugin is started for every pod: linked statically and at a fixed address it starts in half the time.
STATIC := -C target-feature=+crt-static -C relocation-model=static

# Static binaries for images, in target/static/PROFILE: PROFILE=dev or release; ARCH=amd64 or arm64, this machine's unless said.
PROFILE ?= dev
HOST_ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(shell uname -m)))
ARCH ?= $(HOST_ARCH)
STATIC_DIR = target/static/$(PROFILE)$(if $(filter-out $(HOST_ARCH),$(ARCH)),-$(ARCH))
DOCKER ?= docker
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
IMAGE ?= cambric:$(VERSION)
IMAGE_MAX_BYTES := 20000000

.PHONY: help build release static static-dir image test test-all test-docker test-runtimes test-collisions test-bfd bfd-table lint unit fuzz fuzz-short topology demo bench bench-policy bench-wire crds tools tools-test tools-bench clean

help:
	@echo 'make demo     two racks on this machine, pods that reach pods, a TOR and a daemon that die'
	@echo '              KEEP=1 leaves the lab up'
	@echo 'make test     every test, topologies included, that needs no containers (root)'
	@echo 'make bench    what a packet, a change, a new pod and 500 BGP peers cost, beside iptables, FRR, BIRD, GoBGP (root);'
	@echo '              what an UPDATE costs the BGP core, beside other codecs'
	@echo '              CASE=path (or sets, compile, gate, memory, peers, wire) runs that one; ARGS=--help says what may be chosen'
	@echo 'make build    all binaries, for the lab'
	@echo 'make release  all binaries, small and fast; the CNI plugin static'
	@echo 'make static   cambricd, cambric and cambric-cni in target/static/dev, for an empty image; PROFILE=release ARCH=arm64'
	@echo 'make image    the image cambric:VERSION of release binaries, by the Docker daemon that answers; ARCH=arm64'
	@echo 'make test-docker   the image with the rights of the DaemonSet, and containerlab/two-rack in containers (root)'
	@echo 'make test-runtimes nodes with containerd, the daemon started as its DaemonSet says, pods by CRI (root)'
	@echo 'make test-collisions   both ends of a session connect at once, 30 times with each of FRR, BIRD and GoBGP (root)'
	@echo 'make fuzz     each fuzz target for FUZZ_SECONDS=300 seconds; FUZZ="update open" runs these; bgp/fuzz/README.md'
	@echo 'make test-bfd no false alarm of BFD in ten minutes with all cores busy; make bfd-table: the table of docs/bfd.md (root)'
	@echo 'make test-all test, test-docker and test-runtimes; what CI runs'
	@echo 'make crds     the CRDs of deploy/crds, anew from the types'
	@echo 'make lint     formatting, clippy, dependencies: licences, versions, what bgp/core may use'

build:
	$(CARGO) build --locked --workspace

release:
	$(CARGO) build --locked --release --workspace --exclude cambric-cni
	RUSTFLAGS='$(STATIC)' $(CARGO) build --locked --release -p cambric-cni --target "$$(rustc -vV | sed -n 's/^host: //p')"
	cp target/"$$(rustc -vV | sed -n 's/^host: //p')"/release/cambric-cni target/release/

# Only the last step differs from a build for this machine; libraries that are there with the same features are linked once more.
# Another architecture needs its linker and C library (Debian: gcc-aarch64-linux-gnu) and Rust's own (rustup target add).
static: triple = $(patsubst arm64,aarch64,$(patsubst amd64,x86_64,$(ARCH)))-unknown-linux-gnu
static: cross = $(if $(filter-out $(HOST_ARCH),$(ARCH)),--target $(triple) --config target.$(triple).linker='"$(subst unknown-,,$(triple))-gcc"')
static: out = target/$(if $(cross),$(triple)/)$(patsubst dev,debug,$(PROFILE))
static:
	$(CARGO) rustc --locked --profile $(PROFILE) $(cross) -p cambricd --bin cambricd -- -C target-feature=+crt-static
	$(CARGO) rustc --locked --profile $(PROFILE) $(cross) -p cambric --bin cambric -- -C target-feature=+crt-static
	$(CARGO) rustc --locked --profile $(PROFILE) $(cross) -p cambric-cni --bin cambric-cni -- $(STATIC)
	mkdir -p $(STATIC_DIR)
	install --strip --strip-program=$(if $(cross),$(subst unknown-,,$(triple))-)strip $(addprefix $(out)/,cambricd cambric cambric-cni) $(STATIC_DIR)

static-dir:
	@echo $(STATIC_DIR)

# The binaries are built here and taken in. deploy/image/README.md has the way that builds them in Docker.
image: PROFILE = release
image:
	@$(DOCKER) version --format '{{.Server.Version}}' >/dev/null || { echo 'cambric: no Docker daemon answers; start one, or name it with DOCKER_HOST' >&2; exit 1; }
	$(MAKE) static PROFILE=release ARCH=$(ARCH)
	set -- --build-arg BINARIES=outside --build-arg VERSION=$(VERSION) --build-arg REVISION="$$(git rev-parse HEAD)" \
	    --platform linux/$(ARCH) --file deploy/image/Dockerfile; \
	DOCKER_BUILDKIT=1 $(DOCKER) build --quiet "$$@" --tag $(IMAGE) $(STATIC_DIR); \
	DOCKER_BUILDKIT=1 $(DOCKER) build --quiet "$$@" --output type=tar,dest=target/image.tar $(STATIC_DIR)
	@echo "$(IMAGE), linux/$(ARCH): $$($(DOCKER) image inspect --format '{{.Size}}' $(IMAGE)) bytes"
	@./deploy/image/measure.sh target/image.tar $(IMAGE_MAX_BYTES)

tools:
	@./deploy/tools.sh demo

tools-test:
	@./deploy/tools.sh test

tools-bench:
	@./deploy/tools.sh bench

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p cambric-lab --test docker --test containerd --test bfd-long -- -D warnings
	./bgp/core/pure.sh
	if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check bans licenses sources; \
	else python3 -B -m doctest .ci/dependencies.py && python3 -B .ci/dependencies.py; fi

unit:
	$(CARGO) test --locked --workspace --exclude cambric-lab

topology:
	$(CARGO) test --locked -p cambric-lab -- --nocapture

# What is found new stays under target/fuzz, and a run goes on from there.
FUZZ_SECONDS ?= 300
fuzz:
	./bgp/fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ)

fuzz-short:
	./bgp/fuzz/run.sh 60/all

test-docker: tools-test static
	$(CARGO) test --locked -p cambric-lab --test docker -- --nocapture

test-runtimes: tools-test static
	$(CARGO) test --locked -p cambric-lab --test containerd -- --nocapture

test-collisions: tools-test build
	CAMBRIC_INTEROP='same moment, many' CAMBRIC_INTEROP_ROUNDS=30 $(CARGO) test --locked -p cambric-lab --test peers -- --nocapture

test-bfd: tools-test build
	$(CARGO) test --locked -p cambric-lab --test bfd-long busy -- --nocapture

bfd-table: tools-test build
	$(CARGO) test --locked -p cambric-lab --test bfd-long what_each_end -- --nocapture

test: tools-test build lint unit fuzz-short topology

test-all: test test-docker test-runtimes

demo: tools build
	target/debug/cambric-demo $(if $(KEEP),--keep) $(LAB)

bench: $(if $(filter wire,$(CASE)),bench-wire,bench-policy $(if $(CASE),,bench-wire))

bench-policy: tools-bench
	$(CARGO) build --locked --release -p cambric-bench -p cambricd -p cambric-cni
	target/release/cambric-bench $(CASE) $(ARGS)

bench-wire:
	$(CARGO) bench --locked -p cambric-bench --bench wire -- $(if $(CASE),$(ARGS))

crds:
	$(CARGO) run --locked -q -p cambricd --example crds

clean:
	$(CARGO) clean
