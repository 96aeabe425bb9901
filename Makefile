# The lines with ## are the help. Tools of our own go to bin/, what is built to build/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
FUZZTIME ?= 8s
RACETIMEOUT ?= 25m
GOLANGCI_VERSION := v2.15.0
GOLANGCI := bin/golangci-lint-$(GOLANGCI_VERSION)
DEADCODE_VERSION := v0.38.0
DEADCODE := bin/deadcode-$(DEADCODE_VERSION)

.PHONY: help run build release release-try demo test race guards lint check fuzz conform crash bench bench-quick \
	bench-report bench-rooms bench-curves profile fmt fmt-check deps clean torture-campaign torture-gateways

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## run firth here: MQTT on 1883, Kafka on 9092, HTTP on 8080
	$(GO) run ./cmd/firth

build: ## build the binary into build/firth
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-w -o build/firth ./cmd/firth

release: ## binaries for all systems, .deb, .rpm, image, SHA256SUMS: build/release (RELEASE=linux/amd64: only that)
	packaging/release.sh $(RELEASE)

release-try: ## try the binaries for Linux of a release, by qemu-user where they are for other machines
	conformance/install.sh qemu
	packaging/selftest.sh build/release/bin/firth_linux_*

demo: ## a small fleet of devices and a Kafka consumer, live
	$(GO) run ./cmd/firth demo

test: deps ## every test, after installing the clients they use
	$(GO) test ./...

race: deps ## every test, with the race detector
	$(GO) test -race -timeout $(RACETIMEOUT) ./...

guards: ## bounds on memory that cannot be held under the race detector
	$(GO) test -count=1 -run 'Allocs|Idle|TenThousand' ./internal/mqtt ./internal/log/store

lint: $(GOLANGCI) $(DEADCODE) ## vet, golangci-lint, and no function that nothing calls
	$(GO) vet ./...
	$(GOLANGCI) run ./...
	@found=$$($(DEADCODE) -test ./...); if [ -n "$$found" ]; then echo "$$found"; exit 1; fi

check: fmt-check lint race guards fuzz crash conform ## all that CI does
	@echo "check: all gates passed"

fuzz: ## every fuzz target for FUZZTIME (8s) each
	@FUZZTIME=$(FUZZTIME) .ci/fuzz

crash: ## the log after a crash at every file operation, a kill at any time, a full disk
	.ci/crash

torture-campaign: ## a campaign in the manner of Jepsen, CAMPAIGN (100) runs of some 10 s
	$(GO) test -count=1 -timeout 120m -v -run TestCampaign ./torture -args -campaign $${CAMPAIGN:-100}

torture-gateways: build ## three gateways before three Kafka brokers, all struck for GATEWAYS (10m)
	GATEWAYS=$${GATEWAYS:-10m} BLOWS= TAKEOVER=6s WITHIN=$${WITHIN:-10s} conformance/run.sh chaos

conform: build ## other people's clients and suites against the binary
	conformance/run.sh

bench: build ## firth beside its peers, an hour and a half alone on the machine: bench/RESULTS.md
	conformance/install.sh bench
	/usr/bin/python3 bench/run.py $(BENCH)

bench-quick: build ## the same in under 10 minutes: build/bench/RESULTS.md
	conformance/install.sh bench
	/usr/bin/python3 bench/run.py --quick $(BENCH)

bench-report: ## draw the report of the last run again
	/usr/bin/python3 bench/run.py --report

bench-rooms: ## the benchmarks of the hot rooms beside their baseline (benchstat)
	bench/rooms/run.sh

bench-curves: build ## how cost grows with connections, topics, sizes (25 min; CURVES=--quick: 6)
	conformance/install.sh bench
	/usr/bin/python3 bench/curves $(CURVES)

profile: build ## profiles and flame graphs of a standard load: build/profile
	/usr/bin/python3 bench/curves/profile.py $(PROFILE)

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

fmt-check:
	@out=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$out" ]; then echo "not formatted (make fmt):"; echo "$$out"; exit 1; fi

deps: ## install the clients that tests use (mosquitto, kcat)
	@conformance/install.sh clients

clean: ## remove what was built
	rm -rf build bin

$(GOLANGCI):
	@echo "building golangci-lint $(GOLANGCI_VERSION) (once)"
	GOBIN=$(CURDIR)/bin .ci/again $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv bin/golangci-lint $@

$(DEADCODE):
	GOBIN=$(CURDIR)/bin .ci/again $(GO) install golang.org/x/tools/cmd/deadcode@$(DEADCODE_VERSION)
	mv bin/deadcode $@
