# The commands of the repository. It needs Go, git and make; `make` alone lists what there is.

# One set of build flags for everything, so that no command compiles again what another one has compiled. There is no
# C code in the tree, and without cgo the binaries run on any Linux.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath $(GOFLAGS)
# The namespace of a developer's shell would find its way into the command reference.
unexport FLUX_SYSTEM_NAMESPACE

# Debug tables double the time to link; stack traces do not need them.
LDFLAGS := -s -w
TEST := go test -ldflags='$(LDFLAGS)'
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: build cluster ## follow a Git repository on a cluster of its own, and show what happens
	go run ./test/demo

# The packages that run the whole program: each needs the cluster to itself, and plays the part of the kubelet.
SYSTEM := ./internal/cli ./test/compat ./test/e2e

.PHONY: test
test: build cluster s3 ## run all tests: units, and those that need a cluster
	cd cluster && $(TEST) -timeout 15m ./...
	bin/flux-cluster exec -- $(TEST) -timeout 20m $$(go list ./... | grep -v -x -F $(patsubst .%,-e github.com/seed-79636ae9/flux%,$(SYSTEM)))
	bin/flux-cluster exec -- $(TEST) -p 1 -timeout 30m $(SYSTEM)

.PHONY: build
build: ## build bin/flux
	@echo "building bin/flux (the first time takes a few minutes)"
	go build -ldflags='$(LDFLAGS)' -o bin/flux ./cmd/flux

.PHONY: cluster
cluster: bin/flux-cluster ## build bin/flux-cluster, the control plane for demo and tests

bin/flux-cluster: $(shell find cluster -type f)
	@echo "building bin/flux-cluster (the first time takes about six minutes on two cores)"
	cd cluster && go build -ldflags='$(LDFLAGS)' -o ../bin/flux-cluster ./cmd/flux-cluster
	@touch $@

.PHONY: s3
s3: bin/s3 ## build bin/s3, the S3 server that tests of buckets run against

bin/s3: test/tools/s3/go.mod test/tools/s3/go.sum
	@echo "building bin/s3 (the first time takes about three minutes on two cores)"
	cd test/tools/s3 && go build -ldflags='$(LDFLAGS)' -o ../../../bin/s3 github.com/versity/versitygw/cmd/versitygw
	@touch $@

.PHONY: generate
generate: ## write the CRDs, the copy functions, the command reference and the tables of types anew
	go tool controller-gen object crd paths=./api/... output:crd:dir=api/crds
	go run ./internal/gen
	go run -ldflags='$(LDFLAGS)' ./cmd/flux docgen --path docs/cmd

.PHONY: verify
verify: check lint unit ## all that can be said in a minute without a cluster

.PHONY: check
check: format vet generated ## formatting, go vet, and whether generated files are up to date

.PHONY: format
format:
	@unformatted=$$(gofmt -l $$(find . -name '*.go' -not -path './.*')); \
	if [ -n "$$unformatted" ]; then echo "run gofmt -w on:" >&2; echo "$$unformatted" >&2; exit 1; fi

.PHONY: vet
vet:
	go vet ./...
	cd cluster && go vet ./...

# Compares with what was there before, not with git: uncommitted work is no reason to fail.
GENERATED := find api docs -name 'zz_generated*' -o -path '*/crds/*.yaml' -o -path 'docs/cmd/*.md' -o -path docs/provider.md -o -path docs/receiver.md
.PHONY: generated
generated:
	@before=$$($(GENERATED) | sort | xargs cksum) && $(MAKE) --no-print-directory generate && \
	after=$$($(GENERATED) | sort | xargs cksum) && \
	if [ "$$before" != "$$after" ]; then echo "generated files were stale: commit what make generate has just changed" >&2; exit 1; fi

# SA1019: deprecated fields of kustomize are what repositories hold. ST1005: messages that begin with a capital are the API of 2.9.
.PHONY: lint
lint: ## staticcheck; some minutes the first time, seconds later
	go run $(STATICCHECK) -checks=inherit,-SA1019,-ST1005 ./...
	cd cluster && go run $(STATICCHECK) -checks=inherit,-SA1019,-ST1005 ./...

.PHONY: unit
unit: ## run the tests that need no cluster
	$(TEST) -short ./...

.PHONY: race
race: ## run the same with the race detector; needs a C compiler
	CGO_ENABLED=1 go test -race -short ./api/... ./toolkit/... ./internal/...

.PHONY: bench
bench: build cluster ## print the table of docs/benchmarks.md; half an hour on an idle machine
	go run ./test/bench

.PHONY: growth
growth: build cluster ## print how cost grows up to 5,000 applications; on an idle machine
	go run ./test/bench growth

.PHONY: figures
figures: build cluster ## print the single figures of docs/benchmarks.md; on an idle machine
	go run ./test/bench figures

.PHONY: microbench
microbench: ## run the Go benchmarks of hot paths and compare them with test/bench/baseline.txt
	go run ./test/bench/micro

.PHONY: vuln
vuln: ## look for known vulnerabilities in what the binaries call; needs the Internet
	go run $(GOVULNCHECK) ./...
	cd cluster && go run $(GOVULNCHECK) ./...

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
