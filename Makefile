# Solegate. `make` alone says what there is.
#
# Every recipe works on a fresh clone, installs what it can and otherwise says
# in one line what to do. What CI runs is `make test`, nothing more.

GO     ?= go
NEED   := .ci/need
SPA    := clients/spa

# The modules of this repository: `./...` in one does not see the others.
MODULES := . keys/verify authz/provider/oryx

# The limit is for the test that hangs: on two cores, with the race detector, a
# package takes a minute or two.
TESTFLAGS ?= -timeout 8m

# make fuzz: how long for each target.
FUZZTIME ?= 10s

# make bench: flags of cmd/loadtest, such as BENCHFLAGS='--workers 4 --memory',
# for one measurement in place of the three.
BENCHFLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo build test lint unit spa fuzz bench fmt clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run the server, an API, the SPA and a copy of the SPA on this machine
	@$(NEED) go node npm
	@$(GO) build -o bin/ ./cmd/demo ./cmd/solegate
	@exec bin/demo

build: ## build the programs into bin/
	@$(NEED) go
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

test: lint spa unit ## run everything that CI runs: linters, SPA, all tests, the browser's too

lint: ## check formatting, go vet, staticcheck, known vulnerabilities
	@$(NEED) go
	@.ci/lint $(MODULES)

spa: $(SPA)/dist/index.html ## type-check and build the sample SPA

# The browser attacks run in Chromium against the built SPA, so both come
# first. The race detector needs a C compiler, the Redis store a Redis, the
# guard an nginx.
unit: $(SPA)/dist/index.html ## run the tests of every module, with the race detector
	@$(NEED) go cc chromium node npm redis nginx
	@for module in $(MODULES); do \
		echo "go -C $$module test -race $(TESTFLAGS) ./..."; \
		$(GO) -C $$module test -race $(TESTFLAGS) ./... || exit 1; \
	done

fuzz: ## fuzz every target for a moment (FUZZTIME=10s each)
	@$(NEED) go
	@.ci/fuzz $(FUZZTIME) $(MODULES)

# Rates; then how soon each API refuses somebody who is blocked, on each store.
bench: build ## measure rates beside a bare handler's, and how soon a block is everywhere
ifeq ($(BENCHFLAGS),)
	@$(NEED) redis
	@bin/loadtest --server bin/solegate
	@bin/loadtest --server bin/solegate --revocations 1000
	@bin/loadtest --server bin/solegate --revocations 1000 --store redis
else
	@bin/loadtest --server bin/solegate $(BENCHFLAGS)
endif

fmt: ## format the Go files
	@$(NEED) go
	gofmt -s -w cmd authz storage clients/*.go keys

clean: ## remove what was built
	rm -rf bin $(SPA)/dist $(SPA)/node_modules

$(SPA)/node_modules/.package-lock.json: $(SPA)/package.json $(SPA)/package-lock.json
	@$(NEED) node npm
	cd $(SPA) && npm ci --no-audit --no-fund

$(SPA)/dist/index.html: $(SPA)/node_modules/.package-lock.json $(shell find $(SPA) \( -name node_modules -o -name dist \) -prune -o -type f -print 2>/dev/null)
	cd $(SPA) && npm run build
	@touch $@
